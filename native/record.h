// Filling in the public record (memproxy.h).
#ifndef MEMPROXY_RECORD_INTERNAL_H
#define MEMPROXY_RECORD_INTERNAL_H

#include "memproxy.h"
#include "route_name.h"

void record_state(memproxy_state state);

// `allocator` must stay where it is: memproxy_allocator() hands it out.
void record_fill(Route route, memproxy_reason_number reason, unsigned line, const char *allocator);

const char *record_reason();
const char *record_allocator();

#endif
