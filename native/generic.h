// Names of malloc's family by which a library of the program's may have a function of its own.
//
// We export them since some allocators do, and their version must not reach an excluded program. But what a program calls by
// such a name is, without us, the function of its own library: its blocks need not be malloc's, nor its parameters ours.
#ifndef MEMPROXY_GENERIC_H
#define MEMPROXY_GENERIC_H

#include "export.h"
#include "object.h"

#define MEMPROXY_GENERIC_NAMES(X)                                                                                           \
  X(cfree) X(memalign) X(valloc) X(pvalloc)                                                                                 \
  X(free_aligned_sized) X(free_sized) X(freezero) X(freezeroall) X(malloc_good_size) X(malloc_size) X(_aligned_malloc)      \
  X(reallocarr) X(reallocf) X(recallocarray) X(vfree)                                                                       \
  X(mallinfo) X(mallinfo2) X(mallopt) X(malloc_stats) X(malloc_trim) X(malloc_info)

// The address of the function that the process would call without us and without allocators; null: libc's, or there is none.
struct GenericNames {
#define X(name) void *name;
  MEMPROXY_GENERIC_NAMES(X)
#undef X
};
extern HIDDEN GenericNames generic_names;

// Looks behind `self`, which is us; `custom` may be null.
void generic_find(Object self, Object custom);

#endif
