// Filling in the public record (memproxy.h).
#ifndef MEMPROXY_RECORD_INTERNAL_H
#define MEMPROXY_RECORD_INTERNAL_H

#include "export.h"
#include "memproxy.h"
#include "route_name.h"

// Our memproxy_record: the public name may lead to that of another copy of this library, ahead of us.
extern HIDDEN struct memproxy_record own_record;

void record_state(memproxy_state state);

// `allocator` must stay where it is: memproxy_allocator() hands it out.
void record_fill(Route route, memproxy_reason_number reason, unsigned line, const char *allocator);

const char *record_reason();
const char *record_allocator();

#endif
