// A small custom allocator which notices every block that is not its own, with the oddities that macros choose:
//   PREFIX=je_            all names begin so, none is plain; what belongs to some prefix is spelled its way (below)
//   ONLY_THREE            malloc, realloc and free, nothing else
//   ONLY_ALIGNED_ALLOC / ONLY_POSIX_MEMALIGN / ONLY_MEMALIGN   of the aligned functions just this one
//   NO_REALLOC, NO_CALLOC as it says
//   PUBLIC_CALLOC         calloc calls the process's malloc, as libc's on Solaris does, and writes its mark into the header
//   EARLY                 its constructor uses the process's malloc family
//   NULL_FOR_ZERO, NO_ERRNO   malloc(0) is null; a failure leaves errno alone
//   LENIENT               aligned_alloc takes any size
//   ALIGNMENT=8           of malloc, as libumem's
//   FAILING_MEMALIGN      memalign always fails, as libmapmalloc's; MISALIGNED: aligned functions give what malloc gives
//   NOTHING_LEFT          every request fails
//   ANNOUNCE              a thread that was not announced (by nobody) dies, as with rpmalloc's own names
//   MALLOC_IS_DATA, MALLOC_IS_INDIRECT   the kind of the symbol malloc
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#ifdef PREFIX
#define NAME(name) JOIN(PREFIX, name)
#define mi_malloc_usable_size mi_usable_size
#define tc_malloc_usable_size tc_malloc_size
#define ltmalloc_usable_size ltmsize
#define scalable_malloc_usable_size scalable_msize
#define TCMallocInternalmalloc TCMallocInternalMalloc
#define TCMallocInternalcalloc TCMallocInternalCalloc
#define TCMallocInternalrealloc TCMallocInternalRealloc
#define TCMallocInternalfree TCMallocInternalFree
#define TCMallocInternalmemalign TCMallocInternalMemalign
#define TCMallocInternalaligned_alloc TCMallocInternalAlignedAlloc
#define TCMallocInternalposix_memalign TCMallocInternalPosixMemalign
#define TCMallocInternalmalloc_usable_size TCMallocInternalMallocSize
#else
#define NAME(name) name
#endif

#ifndef ALIGNMENT
#define ALIGNMENT 16
#endif

struct header {
  size_t size;
  uint32_t mark, calloc_mark;
};
_Static_assert(sizeof(struct header) <= 16, "keeps the alignment");
enum { kInUse = 0x57ab1e5d, kFreed = 0xdead57ab };

static char *arena;
static size_t arena_size = 1u << 30, used;
static int lock;

static void *take(size_t alignment, size_t size) {
  char *start;
  struct header *header;
#ifdef NOTHING_LEFT
  goto fail;
#endif
#ifdef ANNOUNCE
  abort();
#endif
  if (size > arena_size / 2 || alignment > arena_size / 2) goto fail;
  while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE)) {
  }
  if (arena == NULL) arena = mmap(NULL, arena_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  start = (char *)(((uintptr_t)arena + used + 16 + alignment - 1) & ~(uintptr_t)(alignment - 1));
  if (start + size > arena + arena_size) {
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
    goto fail;
  }
  used = ((size_t)(start - arena) + size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
  __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
  header = (struct header *)(start - 16);
  header->size = size;
  header->mark = kInUse;
  header->calloc_mark = 0;
  return start;
fail:
#ifndef NO_ERRNO
  errno = ENOMEM;
#endif
  return NULL;
}

static void complain(const char *text) {
  ssize_t ignored = write(2, text, strlen(text));
  (void)ignored;
  abort();
}

int stub_owns(const void *block) {
  const struct header *header = (const struct header *)((const char *)block - 16);
  return arena != NULL && (const char *)block > arena && (const char *)block < arena + arena_size && header->mark == kInUse;
}

#ifdef MISALIGNED
#define ALIGNED(alignment) ALIGNMENT
#else
#define ALIGNED(alignment) ((alignment) < 16 ? 16 : (alignment))
#endif

static void *stub_malloc(size_t size) {
#ifdef NULL_FOR_ZERO
  if (size == 0) return NULL;
#endif
  return take(ALIGNMENT, size);
}

#if defined MALLOC_IS_DATA
void *malloc_as_data __asm__("malloc") = stub_malloc;
#elif defined MALLOC_IS_INDIRECT
static void *(*choose(void))(size_t) { return stub_malloc; }
void *malloc(size_t size) __attribute__((ifunc("choose")));
#else
void *NAME(malloc)(size_t size) { return stub_malloc(size); }
#endif

void NAME(free)(void *block) {
  if (block == NULL) return;
  if (!stub_owns(block)) complain("stub: free of a foreign block\n");
  ((struct header *)((char *)block - 16))->mark = kFreed;
}

#ifndef NO_REALLOC
void *NAME(realloc)(void *block, size_t size) {
  void *fresh;
  size_t old;
  if (block == NULL) return stub_malloc(size);
  if (!stub_owns(block)) complain("stub: realloc of a foreign block\n");
  fresh = take(ALIGNMENT, size);
  if (fresh == NULL) return NULL;
  old = ((struct header *)((char *)block - 16))->size;
  memcpy(fresh, block, old < size ? old : size);
  NAME(free)(block);
  return fresh;
}
#endif

#ifndef ONLY_THREE
#ifndef NO_CALLOC
void *NAME(calloc)(size_t count, size_t size) {
  void *block;
  if (size != 0 && count > SIZE_MAX / size) {
#ifndef NO_ERRNO
    errno = ENOMEM;
#endif
    return NULL;
  }
#ifdef PUBLIC_CALLOC
  block = malloc(count * size);
  if (block == NULL) return NULL;
  if (!stub_owns(block)) complain("stub: calloc was given a foreign block by malloc\n");
  ((struct header *)((char *)block - 16))->calloc_mark = 1;
#else
  block = stub_malloc(count * size);
#endif
  return block == NULL ? NULL : memset(block, 0, count * size);
}
#endif

#if !defined ONLY_ALIGNED_ALLOC && !defined ONLY_POSIX_MEMALIGN
void *NAME(memalign)(size_t alignment, size_t size) {
  if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) complain("stub: memalign takes powers of two\n");
#ifdef FAILING_MEMALIGN
  errno = EINVAL;
  return NULL;
#endif
  return take(ALIGNED(alignment), size);
}
#endif
#if !defined ONLY_POSIX_MEMALIGN && !defined ONLY_MEMALIGN && !defined FAILING_MEMALIGN
void *NAME(aligned_alloc)(size_t alignment, size_t size) {
#ifndef LENIENT
  if ((alignment & (alignment - 1)) != 0 || size % alignment != 0) complain("stub: aligned_alloc is strict\n");
#endif
  return take(ALIGNED(alignment), size);
}
#endif
#if !defined ONLY_ALIGNED_ALLOC && !defined ONLY_MEMALIGN && !defined FAILING_MEMALIGN
int NAME(posix_memalign)(void **block, size_t alignment, size_t size) {
  if ((alignment & (alignment - 1)) != 0 || alignment % sizeof(void *) != 0) complain("stub: posix_memalign is strict\n");
  *block = take(ALIGNED(alignment), size);
  return *block == NULL ? ENOMEM : 0;
}
#endif
size_t NAME(malloc_usable_size)(void *block) { return block == NULL ? 0 : ((struct header *)((char *)block - 16))->size; }
#endif

#ifdef EARLY
static void *early[4];
__attribute__((constructor)) static void start(void) {
  early[0] = malloc(100);
  early[1] = calloc(10, 10);
  early[2] = realloc(malloc(5), 100);
  if (posix_memalign(&early[3], 64, 100) != 0) abort();
}
__attribute__((destructor)) static void stop(void) {
  size_t i;
  for (i = 0; i < 4; ++i) free(early[i]);
}
#endif
