// A program with its own malloc, free, calloc and realloc, as the records of illumos have one: counts the blocks of others that
// reach its free. It leaves room in front of its blocks, in which libc's memalign may write what it takes for a header.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static char arena[16 << 20] __attribute__((aligned(64)));
static size_t used;
static int foreign, in_main, before_main;

void *malloc(size_t size) {
  char *block = arena + used + 64;
  if (!in_main) ++before_main;
  if (size > sizeof arena / 2 || used + size + 128 > sizeof arena) return NULL;
  used += (size + 64 + 63) & ~(size_t)63;
  ((size_t *)(block - 64))[0] = size;
  return block;
}

void free(void *block) {
  if (block != NULL && ((char *)block < arena || (char *)block >= arena + used + 64)) ++foreign;
}

void *calloc(size_t count, size_t size) {
  void *block = malloc(count * size);
  return block == NULL ? NULL : memset(block, 0, count * size);
}

void *realloc(void *block, size_t size) {
  void *fresh = malloc(size);
  if (block != NULL && ((char *)block < arena || (char *)block >= arena + used)) ++foreign;
  else if (block != NULL && fresh != NULL) memcpy(fresh, block, size < 16 ? size : 16);
  return fresh;
}

static void tell(const char *name, void *block) {
  foreign = 0;
  free(block);
  printf("%s %s%d\n", name, block == NULL ? "none " : "", foreign);
}

int main(void) {
  void *(*aligned_alloc)(size_t, size_t) = dlsym(RTLD_DEFAULT, "aligned_alloc");
  int (*posix_memalign)(void **, size_t, size_t) = dlsym(RTLD_DEFAULT, "posix_memalign");
  void *(*memalign)(size_t, size_t) = dlsym(RTLD_DEFAULT, "memalign");
  void *(*valloc)(size_t) = dlsym(RTLD_DEFAULT, "valloc");
  void *(*reallocarray)(void *, size_t, size_t) = dlsym(RTLD_DEFAULT, "reallocarray");
  void *(*_new)(size_t) = dlsym(RTLD_DEFAULT, sizeof(size_t) == 8 ? "_Znwm" : "_Znwj");
  void *block = NULL;
  in_main = 1;
  printf("before main %d\n", before_main);
  tell("strdup", strdup("abc"));
  tell("reallocarray", reallocarray(NULL, 3, 7));
  block = reallocarray(malloc(16), 3, 70);
  tell("reallocarray own", block);
  block = NULL;
  posix_memalign(&block, 64, 100);
  tell("posix_memalign", block);
  tell("aligned_alloc", aligned_alloc(64, 128));
  tell("memalign", memalign(256, 128));
  tell("valloc", valloc(128));
  if (_new != NULL) tell("new", _new(10));
  return 0;
}
