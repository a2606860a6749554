/* A whole allocator in a page of C, for demonstrations and tests where no real one can be had: it hands out memory from
   regions of mmap(2) and never gives any back. Safe in threads and signal handlers, since the only state is one pointer
   that moves by compare-and-swap. It needs nothing but libc's mmap (and, on Solaris, ___errno).

   Standing behind libmemproxy it counts as the custom allocator because it lies in the same directory. */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

#define EXPORT __attribute__((visibility("default")))

enum { ALIGNMENT = 16, REGION = 1 << 20 };

/* What lies in front of every block, padded so that the block is aligned. */
typedef union {
  size_t size;
  char pad[ALIGNMENT];
} Header;

/* At the start of a region; `next` moves from behind this towards `end`. */
typedef struct {
  char *next;
  char *end;
} Region;

static Region *current;

static void *fail(int error) {
  errno = error;
  return NULL;
}

static uintptr_t round_up(uintptr_t value, uintptr_t to) { return (value + to - 1) & ~(to - 1); }

static Region *map(size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return NULL;
  Region *region = memory;
  region->next = (char *)memory + sizeof(Region);
  region->end = (char *)memory + size;
  return region;
}

/* A block at a multiple of `alignment` (a power of two, at least ALIGNMENT) in `region`, or null if it does not fit. */
static void *take(Region *region, size_t alignment, size_t size) {
  char *from = __atomic_load_n(&region->next, __ATOMIC_RELAXED);
  for (;;) {
    uintptr_t block = round_up((uintptr_t)from + sizeof(Header), alignment);
    if (block < (uintptr_t)from || block > (uintptr_t)region->end || size > (uintptr_t)region->end - block) return NULL;
    char *to = (char *)block + size;
    if (__atomic_compare_exchange_n(&region->next, &from, to, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
      ((Header *)block)[-1].size = size;
      return (void *)block;
    }
  }
}

static void *allocate(size_t alignment, size_t size) {
  if (alignment < ALIGNMENT) alignment = ALIGNMENT;
  if (size > SIZE_MAX / 2 || alignment > SIZE_MAX / 4) return fail(ENOMEM);
  Region *region = __atomic_load_n(&current, __ATOMIC_ACQUIRE);
  void *block = region == NULL ? NULL : take(region, alignment, size);
  if (block != NULL) return block;
  size_t overhead = sizeof(Region) + sizeof(Header) + alignment;
  size_t wanted = round_up(size + overhead, 65536);
  Region *fresh = map(wanted > REGION ? wanted : REGION);
  if (fresh == NULL) return fail(ENOMEM);
  block = take(fresh, alignment, size);
  /* If another thread was faster, the rest of this region is lost; so be it. */
  if (wanted <= REGION)
    __atomic_compare_exchange_n(&current, &region, fresh, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
  return block;
}

EXPORT void *malloc(size_t size) { return allocate(ALIGNMENT, size); }

EXPORT void free(void *block) { (void)block; }

/* Fresh memory of mmap is zero, and nothing is ever handed out twice. */
EXPORT void *calloc(size_t count, size_t size) {
  if (size != 0 && count > SIZE_MAX / size) return fail(ENOMEM);
  return allocate(ALIGNMENT, count * size);
}

EXPORT size_t malloc_usable_size(void *block) { return block == NULL ? 0 : ((Header *)block)[-1].size; }

EXPORT void *realloc(void *block, size_t size) {
  size_t old = malloc_usable_size(block);
  if (block != NULL && size <= old) return block;
  void *fresh = allocate(ALIGNMENT, size);
  if (fresh != NULL && block != NULL) {
    const char *from = block;
    char *to = fresh;
    for (size_t i = 0; i < old; ++i) to[i] = from[i];
  }
  return fresh;
}

EXPORT void *memalign(size_t alignment, size_t size) {
  if (alignment == 0 || (alignment & (alignment - 1)) != 0) return fail(EINVAL);
  return allocate(alignment, size);
}
