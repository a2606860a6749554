// Programs that are built with a sanitizer whose run-time library is a shared object: its malloc is the only right one.
#ifndef MEMPROXY_SANITIZER_H
#define MEMPROXY_SANITIZER_H

#include "object.h"

// True for the run-time library of AddressSanitizer, LeakSanitizer or ThreadSanitizer (one linked into the program owns malloc).
bool sanitizer_defines(Object object);

#endif
