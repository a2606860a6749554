// An allocator for Solaris, compiled for it, which ends the process if it is given a foreign block:
//   -DPLAIN       all of malloc(3C) as Solaris 10 has it, each function on its own
//   -DUMEM        as libumem: calloc and realloc call the public names
//   -DMTMALLOC    as libmtmalloc: these and memalign do; 8-byte alignment; works only when its initialiser has run, which
//                 itself calls the public malloc
//   -DMAPMALLOC   as libmapmalloc: memalign and valloc always fail; cfree
//   -DBSDMALLOC   as libbsdmalloc: malloc, realloc and free, nothing else
//   -DEAGER       as PLAIN, with an initialiser that uses the process's whole family
//   -DUSABLE      malloc_usable_size too
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct header {
  size_t size;
  uint32_t mark;
  uint32_t class;  // of a block that can be used again, 1 to kClasses; it has room for 8 << class bytes
};
enum { kInUse = 0xa110c, kFreed = 0xdead, kHeader = 16 };
enum { kArena = 1 << 30, kClasses = 10 };  // not reserved: who finds the list taken has fresh memory

#ifdef MTMALLOC
enum { kUnit = 8 };
#else
enum { kUnit = 16 };
#endif

void lab_run_initialiser(void (*)(void)) __attribute__((weak));

static char *arena;
static uintptr_t used;
static int initialised;

static void complain(const char *text) {
  write(2, text, strlen(text));
  abort();
}

static struct header *header_of(const void *block) { return (struct header *)((char *)block - kHeader); }

static int owns(const void *block) {
  const char *at = block;
  return arena != NULL && at > arena && at < arena + kArena && header_of(block)->mark == kInUse;
}

int allocator_owns(const void *block) { return owns(block); }

static struct header *known(const void *block, const char *complaint) {
  if (!owns(block)) complain(complaint);
  return header_of(block);
}

static void map_arena(void) {
  void *fresh = mmap(NULL, kArena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
  void *none = NULL;
  if (fresh == MAP_FAILED) complain("allocator: no arena\n");
  __atomic_compare_exchange_n(&arena, (char **)&none, fresh, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

// Free blocks by class. Whoever wants one takes the whole list and puts back the rest: no lock that a fork could copy.
static void *lists[kClasses + 1];

static void put_back(unsigned class, void *first, void *last) {
  void *old = __atomic_load_n(&lists[class], __ATOMIC_RELAXED);
  do *(void **)last = old;
  while (!__atomic_compare_exchange_n(&lists[class], &old, first, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

static void *used_before(unsigned class) {
  void *block = __atomic_exchange_n(&lists[class], NULL, __ATOMIC_ACQUIRE), *rest, *last;
  if (block == NULL) return NULL;
  rest = *(void **)block;
  if (rest != NULL) {
    for (last = rest; *(void **)last != NULL;) last = *(void **)last;
    put_back(class, rest, last);
  }
  return block;
}

static void *take(size_t alignment, size_t size) {
  uintptr_t start, old;
  unsigned class = 0;
  size_t room = size;
#ifdef MTMALLOC
  if (!initialised) complain("allocator: called before its initialiser\n");
#else
  if (arena == NULL) map_arena();
#endif
  if (alignment > kArena || size > kArena) {
    errno = ENOMEM;
    return NULL;
  }
  if (alignment == kUnit && size <= (size_t)8 << kClasses) {
    for (class = 1; (room = (size_t)8 << class) < size;) ++class;
    start = (uintptr_t)used_before(class);
    if (start != 0) {
      header_of((void *)start)->size = size;
      header_of((void *)start)->mark = kInUse;
      return (void *)start;
    }
  }
  old = __atomic_load_n(&used, __ATOMIC_RELAXED);
  do {
    start = ((uintptr_t)arena + old + kHeader + alignment - 1) & ~(uintptr_t)(alignment - 1);
    if (start + room > (uintptr_t)arena + kArena) {
      errno = ENOMEM;
      return NULL;
    }
  } while (!__atomic_compare_exchange_n(&used, &old, (start + room - (uintptr_t)arena + kUnit - 1) & ~(uintptr_t)(kUnit - 1), 0,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  header_of((void *)start)->size = size;
  header_of((void *)start)->class = class;
  header_of((void *)start)->mark = kInUse;
  return (void *)start;
}

void *malloc(size_t size) { return take(kUnit, size); }

void free(void *block) {
  struct header *header;
  if (block == NULL) return;
  header = known(block, "allocator: free of a foreign block\n");
  header->mark = kFreed;
  if (header->class != 0) put_back(header->class, block, block);
}

#ifdef USABLE
size_t malloc_usable_size(void *block) { return known(block, "allocator: size of a foreign block\n")->size; }
#endif

#if defined PLAIN || defined MAPMALLOC || defined BSDMALLOC || defined EAGER
#define PUBLIC_MALLOC(size) take(kUnit, size)
#else
#define PUBLIC_MALLOC(size) malloc(size)
#endif

void *realloc(void *block, size_t size) {
  size_t old;
  void *fresh;
  if (block == NULL) return PUBLIC_MALLOC(size);
  old = known(block, "allocator: realloc of a foreign block\n")->size;
  if (size == 0) {
    free(block);
    return NULL;
  }
  fresh = PUBLIC_MALLOC(size);
  if (fresh == NULL) return NULL;
  (void)known(fresh, "allocator: realloc was given a foreign block by malloc\n");
  memcpy(fresh, block, old < size ? old : size);
  free(block);
  return fresh;
}

#ifndef BSDMALLOC
void *calloc(size_t count, size_t size) {
  void *block;
  if (size != 0 && count > SIZE_MAX / size) {
    errno = ENOMEM;
    return NULL;
  }
  block = PUBLIC_MALLOC(count * size);
  if (block == NULL) return NULL;
  (void)known(block, "allocator: calloc was given a foreign block by malloc\n");
  return memset(block, 0, count * size);
}

void *memalign(size_t alignment, size_t size) {
#if defined MAPMALLOC
  errno = EINVAL;
  return NULL;
#elif defined MTMALLOC
  uintptr_t block, aligned;
  size_t whole;
  if (alignment == 0 || size == 0 || (alignment & (sizeof(uint32_t) - 1)) != 0) {
    errno = EINVAL;
    return NULL;
  }
  if (alignment <= kUnit) return malloc(size);
  if (size > SIZE_MAX - alignment - kHeader) {
    errno = ENOMEM;
    return NULL;
  }
  block = (uintptr_t)malloc(size + alignment + kHeader);
  if (block == 0) return NULL;
  whole = known((void *)block, "allocator: memalign was given a foreign block by malloc\n")->size;
  aligned = (block + kHeader + alignment - 1) / alignment * alignment;
  header_of((void *)aligned)->size = block + whole - aligned;
  header_of((void *)aligned)->mark = kInUse;
  header_of((void *)aligned)->class = 0;
  return (void *)aligned;
#else
  if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
    errno = EINVAL;
    return NULL;
  }
  return take(alignment < kUnit ? kUnit : alignment, size);
#endif
}

void *valloc(size_t size) { return memalign(4096, size); }
#endif

#ifdef MAPMALLOC
void cfree(void *block) { free(block); }
#endif

__attribute__((visibility("protected"))) void lab_initialise(void) {
#ifdef MTMALLOC
  map_arena();
  initialised = 1;
  free(realloc(malloc(100), 1000));
#endif
#ifdef EAGER
  static void *kept[4];
  kept[0] = malloc(100);
  kept[1] = calloc(10, 10);
  kept[2] = realloc(malloc(10), 1000);
  kept[3] = memalign(64, 100);
  if (kept[0] == NULL || kept[1] == NULL || kept[2] == NULL || (uintptr_t)kept[3] % 64 != 0) complain("allocator: nothing early\n");
  memset(kept[2], 7, 1000);
#endif
  initialised = 1;
}

__attribute__((constructor)) static void start(void) {
  if (lab_run_initialiser != NULL) lab_run_initialiser(lab_initialise);
}
