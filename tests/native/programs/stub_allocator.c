// A small custom allocator which notices every block that is not its own, with the oddities that macros choose:
//   PREFIX=je_            all names begin so, none is plain
//   ONLY_THREE            malloc, realloc and free, nothing else
//   ONLY_ALIGNED_ALLOC / ONLY_POSIX_MEMALIGN   of the aligned functions just this one
//   PUBLIC_CALLOC         calloc calls the process's malloc, as libc's on Solaris does, and writes its mark into the header
//   EARLY                 its constructor uses the process's malloc family
//   NULL_FOR_ZERO, NO_ERRNO   malloc(0) is null; a failure leaves errno alone
//   LENIENT               aligned_alloc takes any size
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
#else
#define NAME(name) name
#endif

struct header {
  size_t size;
  uint32_t mark, calloc_mark;
};
_Static_assert(sizeof(struct header) <= 16, "keeps the alignment");
enum { kInUse = 0x57ab1e5d, kFreed = 0xdead57ab };

static char *arena;
static size_t arena_size = 256u << 20, used;
static int lock;

static void *take(size_t alignment, size_t size) {
  char *start;
  struct header *header;
  if (size > arena_size / 2 || alignment > arena_size / 2) goto fail;
  while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE)) {
  }
  if (arena == NULL) arena = mmap(NULL, arena_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  start = (char *)(((uintptr_t)arena + used + 16 + alignment - 1) & ~(uintptr_t)(alignment - 1));
  if (start + size > arena + arena_size) {
    __atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
    goto fail;
  }
  used = ((size_t)(start - arena) + size + 15) & ~(size_t)15;
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

void *NAME(malloc)(size_t size) {
#ifdef NULL_FOR_ZERO
  if (size == 0) return NULL;
#endif
  return take(16, size);
}

void NAME(free)(void *block) {
  if (block == NULL) return;
  if (!stub_owns(block)) complain("stub: free of a foreign block\n");
  ((struct header *)((char *)block - 16))->mark = kFreed;
}

void *NAME(realloc)(void *block, size_t size) {
  void *fresh;
  size_t old;
  if (block == NULL) return NAME(malloc)(size);
  if (!stub_owns(block)) complain("stub: realloc of a foreign block\n");
  fresh = take(16, size);
  if (fresh == NULL) return NULL;
  old = ((struct header *)((char *)block - 16))->size;
  memcpy(fresh, block, old < size ? old : size);
  NAME(free)(block);
  return fresh;
}

#ifndef ONLY_THREE
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
  block = NAME(malloc)(count * size);
#endif
  return block == NULL ? NULL : memset(block, 0, count * size);
}

#if !defined ONLY_ALIGNED_ALLOC && !defined ONLY_POSIX_MEMALIGN
void *NAME(memalign)(size_t alignment, size_t size) {
  if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) complain("stub: memalign takes powers of two\n");
  return take(alignment < 16 ? 16 : alignment, size);
}
#endif
#if !defined ONLY_POSIX_MEMALIGN
void *NAME(aligned_alloc)(size_t alignment, size_t size) {
#ifndef LENIENT
  if ((alignment & (alignment - 1)) != 0 || size % alignment != 0) complain("stub: aligned_alloc is strict\n");
#endif
  return take(alignment < 16 ? 16 : alignment, size);
}
#endif
#if !defined ONLY_ALIGNED_ALLOC
int NAME(posix_memalign)(void **block, size_t alignment, size_t size) {
  if ((alignment & (alignment - 1)) != 0 || alignment % sizeof(void *) != 0) complain("stub: posix_memalign is strict\n");
  *block = take(alignment < 16 ? 16 : alignment, size);
  return *block == NULL ? ENOMEM : 0;
}
#endif
#ifndef PREFIX
size_t malloc_usable_size(void *block) { return block == NULL ? 0 : ((struct header *)((char *)block - 16))->size; }
#endif
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
