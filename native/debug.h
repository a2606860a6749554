// MEMPROXY_DEBUG=1: one line on standard error about the decision.
#ifndef MEMPROXY_DEBUG_H
#define MEMPROXY_DEBUG_H

// Tells what the record holds. `executable` may be null; `list` is the path of the exclusion list.
void debug_tell(const char *executable, const char *list);

#endif
