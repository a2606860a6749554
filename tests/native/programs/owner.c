// owner.h for C++ programs, as an object of its own.
#define _GNU_SOURCE
#include <errno.h>

#include "owner.h"

const char *owner_of_block(void *(*allocate)(size_t)) { return owner_of(allocate); }
