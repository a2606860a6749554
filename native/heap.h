// The function set of one allocator: what it defines, taken from one object, and what it lacks, made from that.
#ifndef MEMPROXY_HEAP_H
#define MEMPROXY_HEAP_H

#include <stddef.h>

#include "export.h"
#include "object.h"

struct Heap {
  void *(*malloc)(size_t);
  void *(*calloc)(size_t, size_t);
  void *(*realloc)(void *, size_t);
  void (*free)(void *);
  void *(*memalign)(size_t, size_t);
  int (*posix_memalign)(void **, size_t, size_t);
  void *(*aligned_alloc)(size_t, size_t);
  void *(*valloc)(size_t);
  void *(*pvalloc)(size_t);
  size_t (*usable_size)(void *);
};

// Where functions come from: gives the address of a name, or null.
struct HeapSource {
  void *(*lookup)(const void *context, const char *name);
  const void *context;
};

// The source that is one object.
HeapSource heap_source(Object object);

// Does the object carry the private name of an allocator that we know?
bool heap_has_known_name(Object object);

// Fills in what the source defines, under the plain names or all under the private names of one allocator; null for what
// it does not. False if malloc, realloc and free are not all there: then it is no allocator. (Under private names realloc
// may be missing if the size of a block can be asked for.)
bool heap_find(const HeapSource &source, Heap *heap);

// Only the plain names, each on its own.
void heap_find_plain(const HeapSource &source, Heap *heap);

// heap_complete gives what is null in *heap a function that is made from `heap_base`.
void heap_complete(Heap *heap);

// What the functions below, operator new and the exported relatives of malloc are made from.
extern HIDDEN Heap heap_base;

void *heap_calloc(size_t count, size_t size);
void *heap_memalign_by_aligned_alloc(size_t alignment, size_t size);
void *heap_memalign_by_posix_memalign(size_t alignment, size_t size);
// Checks what the allocator gives. Alignment: a power of two, a pointer's size at least.
void *heap_aligned(size_t alignment, size_t size);
int heap_posix_memalign(void **block, size_t alignment, size_t size);
void *heap_aligned_alloc(size_t alignment, size_t size);
void *heap_valloc(size_t size);
void *heap_pvalloc(size_t size);

#endif
