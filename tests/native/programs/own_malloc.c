// A program with its own malloc, realloc, calloc and free, which aborts on a foreign block. It asks libc for memory that libc
// gets from the public malloc, and for the family's other names. Prints who served each.
// -DALIGNED: it defines memalign too. -DCOUNT: just how often its malloc was called before main.
#define _GNU_SOURCE
#include <errno.h>

#include "owner.h"

static char arena[64 << 20] __attribute__((aligned(4096)));
static size_t used;
static int calls_before_main, in_main, calls;
enum { kMark = 0x0717 };

static void complain(const char *text) {
  ssize_t ignored = write(2, text, strlen(text));
  (void)ignored;
  abort();
}

static int mine(const void *block) { return (const char *)block > arena && (const char *)block < arena + sizeof arena; }

static void *take(size_t alignment, size_t size) {
  uintptr_t start = ((uintptr_t)arena + used + 16 + alignment - 1) & ~(uintptr_t)(alignment - 1);
  ++calls;
  if (!in_main) ++calls_before_main;
  if (size > sizeof arena || start + size > (uintptr_t)arena + sizeof arena) {
    errno = ENOMEM;
    return NULL;
  }
  used = start + size - (uintptr_t)arena;
  ((size_t *)start)[-1] = size;
  return (void *)start;
}

void *malloc(size_t size) { return take(16, size); }
void free(void *block) {
  if (block != NULL && !mine(block)) complain("own malloc: free of a foreign block\n");
}
void *calloc(size_t count, size_t size) {
  void *block = malloc(count * size);
  return block == NULL ? NULL : memset(block, 0, count * size);
}
void *realloc(void *block, size_t size) {
  void *fresh;
  if (block == NULL) return malloc(size);
  if (!mine(block)) complain("own malloc: realloc of a foreign block\n");
  fresh = malloc(size);
  return fresh == NULL ? NULL : memcpy(fresh, block, ((size_t *)block)[-1] < size ? ((size_t *)block)[-1] : size);
}
#ifdef ALIGNED
void *memalign(size_t alignment, size_t size) { return take(alignment < 16 ? 16 : alignment, size); }
#endif

static void report(const char *name, void *block) {
  printf(", \"%s\": \"%s\"", name, block == NULL ? "none" : mine(block) ? "own" : "other");
}

int main(void) {
  void *block = NULL;
  in_main = 1;
#ifdef COUNT
  printf("%d calls before main\n", calls_before_main);
  return 0;
#endif
  served_start();
  printf("{\"route\": \"%s\", \"reason\": \"%s\"", word_of("memproxy_route"), word_of("memproxy_reason"));
  report("malloc", malloc(10));
  report("strdup", strdup("text"));
  report("calloc", by_calloc(10));
  report("operator new", by_new(10));
  report("reallocarray", by_reallocarray(10));
  report("reallocf", by_reallocf(10));
  {
    // Not by owner_of: these may come from libc, where our free must not give them back.
    const size_t before = glibc_given();
    block = by_posix_memalign(20000);
    printf(", \"posix_memalign\": \"%s\"", mine(block) ? "own" : glibc_given() >= before + 20000 ? "glibc" : "other");
  }
  {
    const size_t before = glibc_given();
    block = by_valloc(20000);
    printf(", \"valloc\": \"%s\"", mine(block) ? "own" : glibc_given() >= before + 20000 ? "glibc" : "other");
  }
  {
    void (*release)(void *);
    *(void **)&release = find("_ZdlPv");
    if (release != NULL) release(by_new(10));
    *(void **)&release = find("cfree");
    if (release != NULL) release(malloc(10));
  }
  printf("}\n");
  return 0;
}
