// What programs built with a sanitizer need so that they run as if we were not there. Without this AddressSanitizer ends the
// program at once, ThreadSanitizer reports races between a block's former and next user, LeakSanitizer sees no leak.

#include "sanitizer.h"

#include "export.h"

// In the interface of each sanitizer that has a malloc, and of no allocator.
bool sanitizer_defines(Object object) { return object_function(object, "__sanitizer_get_allocated_size") != nullptr; }

// Asked of whoever defines it first, by AddressSanitizer's run-time library when it starts, which demands to be the first object
// of all because another's malloc before its own is usually a mistake. Ours hands on to it. The program's own answer goes first,
// and ASAN_OPTIONS is heard after it.
EXPORT const char *__asan_default_options(void) { return "verify_asan_link_order=0"; }
