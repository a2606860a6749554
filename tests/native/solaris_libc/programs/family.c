// Every function of malloc's family, by name, several times: is it there, whose is the block, is it aligned, are the contents
// kept. argv[1]: who is to serve, "libc" or the path of the allocator; argv[2]: "unaligned" if there may be no aligned blocks.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int lab_libc_owns(const void *);

static const char *wanted;
static int problems, aligned_may_fail;

static void problem(const char *what, const char *which) {
  fprintf(stderr, "%s: %s\n", what, which);
  ++problems;
}

static void *find(const char *name) {
  void *address = dlsym(RTLD_DEFAULT, name);
  if (address == NULL) {
    fprintf(stderr, "no %s\n", name);
    exit(3);
  }
  return address;
}

static int is_wanted(const void *block) {
  static int (*owns)(const void *);
  if (strcmp(wanted, "libc") == 0) return lab_libc_owns(block);
  if (owns == NULL) *(void **)&owns = dlsym(dlopen(wanted, RTLD_LAZY | RTLD_NOLOAD), "allocator_owns");
  return owns(block);
}

// Judges a block and fills it.
static void *judge(const char *name, void *block, size_t alignment, size_t size) {
  if (block == NULL) {
    problem(name, "no block");
    return NULL;
  }
  if (!is_wanted(block)) problem(name, "another's block");
  if ((uintptr_t)block % alignment != 0) problem(name, "not aligned");
  return memset(block, 0x7e, size);
}

static void all_of(const char *name, const char *block, int byte, size_t size) {
  size_t i;
  for (i = 0; block != NULL && i < size; ++i)
    if (block[i] != (char)byte) {
      problem(name, "contents");
      return;
    }
}

static void aligned(const char *name, void *block, size_t alignment, size_t size) {
  if (block == NULL && aligned_may_fail) {
    if (errno != ENOMEM && errno != EINVAL) problem(name, "errno");
    return;
  }
  free(judge(name, block, alignment, size));
}

int main(int count, char **words) {
  void *(*memalign)(size_t, size_t) = find("memalign");
  void *(*valloc)(size_t) = find("valloc");
  void *(*pvalloc)(size_t) = find("pvalloc");
  void *(*aligned_alloc)(size_t, size_t) = find("aligned_alloc");
  int (*posix_memalign)(void **, size_t, size_t) = find("posix_memalign");
  void *(*reallocarray)(void *, size_t, size_t) = find("reallocarray");
  void *(*reallocf)(void *, size_t) = find("reallocf");
  void *(*recallocarray)(void *, size_t, size_t, size_t) = find("recallocarray");
  void (*freezero)(void *, size_t) = find("freezero");
  void (*freezeroall)(void *) = find("freezeroall");
  void (*cfree)(void *, size_t, size_t) = find("cfree");
  size_t (*usable)(void *) = find("malloc_usable_size");
  const size_t unit = sizeof(size_t) == 8 ? 8 : 4;
  char *block, *kept[200] = {0};
  size_t i, size;
  (void)count;
  wanted = words[1];
  aligned_may_fail = count > 2 && strcmp(words[2], "unaligned") == 0;

  for (i = 0; i < 3; ++i) {
    free(judge("malloc", malloc(10), unit, 10));
    free(judge("malloc 0", malloc(0), unit, 0));
    block = calloc(100, 30);
    all_of("calloc", block, 0, 3000);
    judge("calloc", block, unit, 3000);
    block = judge("realloc", realloc(block, 9000), unit, 0);
    all_of("realloc", block, 0x7e, 3000);
    cfree(block, 9000, 1);
    if (realloc(malloc(5), 0) != NULL) problem("realloc 0", "a block");
    errno = 0;
    if (calloc(SIZE_MAX / 2, 4) != NULL || errno != ENOMEM) problem("calloc", "overflow");

    block = judge("reallocarray", reallocarray(NULL, 3, 7), unit, 21);
    block = judge("reallocarray", reallocarray(block, 300, 70), unit, 0);
    all_of("reallocarray", block, 0x7e, 21);
    errno = 0;
    if (reallocarray(block, SIZE_MAX / 2, 4) != NULL || errno != ENOMEM) problem("reallocarray", "overflow");
    freezero(block, 21000);
    block = judge("reallocf", reallocf(NULL, 100), unit, 100);
    block = judge("reallocf", reallocf(block, 5000), unit, 0);
    all_of("reallocf", block, 0x7e, 100);
    block = recallocarray(block, 100, 2000, 3);
    all_of("recallocarray", block + 300, 0, 5700);
    freezeroall(judge("recallocarray", block, unit, 6000));

    for (size = 1; size <= 8192; size *= 4) {
      aligned("memalign", memalign(size * 4, 100), size * 4, 100);
      aligned("aligned_alloc", aligned_alloc(size * 4, size * 4), size * 4, size * 4);
      block = NULL;
      if (posix_memalign((void **)&block, size * 8, 100) != 0 && block != NULL) problem("posix_memalign", "result");
      if (block != NULL || !aligned_may_fail) free(judge("posix_memalign", block, size * 8, 100));
    }
    aligned("valloc", valloc(100), 4096, 100);
    aligned("pvalloc", pvalloc(5000), 4096, 8192);
    errno = 0;
    if (memalign(0, 100) != NULL || memalign(6, 100) != NULL) problem("memalign", "an alignment that Solaris refuses");
    if (posix_memalign((void **)&block, 24, 8) != EINVAL) problem("posix_memalign", "24");
    block = malloc(100);
    size = usable(block);
    if (size != 0 && size < 100) problem("malloc_usable_size", "less than was asked for");
    if (usable(NULL) != 0) problem("malloc_usable_size", "of nothing");
    free(block);
    free(judge("strdup", strdup("text"), unit, 5));
  }

  // memalign cuts blocks up and leaves holes: many, of all sizes, in and out of order.
  for (i = 0; i < 20000; ++i) {
    const size_t at = i * 7919 % 200;
    if (kept[at] != NULL) all_of("stress", kept[at], (int)at, 40);
    free(kept[at]);
    kept[at] = i % 3 == 0 ? malloc(40 + i % 500) : i % 3 == 1 ? calloc(1, 40 + i % 300) : memalign((size_t)16 << i % 6, 40 + i % 700);
    if (kept[at] == NULL && aligned_may_fail) continue;
    if (kept[at] == NULL) problem("stress", "no block");
    else memset(kept[at], (int)at, 40);
    if (i % 5 == 0 && kept[at] != NULL) kept[at] = realloc(kept[at], 40 + i % 900);
  }
  for (i = 0; i < 200; ++i) free(kept[i]);
  puts(problems == 0 ? "well" : "not well");
  return problems == 0 ? 0 : 4;
}
