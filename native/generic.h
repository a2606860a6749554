// Names in malloc's family so general that a library of the program's may have a function of its own by them.
//
// We export them since some allocators do, and their version must not reach an excluded program. But what a program calls by
// such a name is, without us, the function of its own library: its blocks need not be malloc's. That one comes first.
#ifndef MEMPROXY_GENERIC_H
#define MEMPROXY_GENERIC_H

#include "export.h"
#include "object.h"

// No name that the C library of Linux has; Solaris has some of them in libc, where they are made from the public malloc as ours are.
#define MEMPROXY_GENERIC_NAMES(X) \
  X(free_aligned_sized) X(free_sized) X(freezero) X(freezeroall) X(malloc_good_size) X(malloc_size) X(_aligned_malloc) \
  X(reallocarr) X(reallocf) X(recallocarray) X(vfree)

// The address of the function that the process would call without us and without allocators; null: there is none.
struct GenericNames {
#define X(name) void *name;
  MEMPROXY_GENERIC_NAMES(X)
#undef X
};
extern HIDDEN GenericNames generic_names;

// Looks behind `self`, which is us; `custom` may be null.
void generic_find(Object self, Object custom);

#endif
