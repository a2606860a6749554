// With an allocator of only malloc, realloc and free: what can be made from these is, and no block comes from elsewhere.
#define _GNU_SOURCE
#include <errno.h>

#include "owner.h"

static void *by_memalign_8(size_t size) {
  void *(*function)(size_t, size_t);
  *(void **)&function = find("memalign");
  return function(8, size);
}

int main(void) {
  int (*owns)(const void *);
  char *block;
  size_t i;
  *(void **)&owns = find("stub_owns");
  REQUIRE(strcmp(owner_of(by_malloc), "stub") == 0);
  REQUIRE(strcmp(owner_of(by_calloc), "stub") == 0);
  REQUIRE(strcmp(owner_of(by_reallocarray), "stub") == 0);
  REQUIRE(strcmp(owner_of(by_strdup), "stub") == 0);
  REQUIRE(strcmp(owner_of(by_new), "stub") == 0);
  REQUIRE(strcmp(owner_of(by_memalign_8), "stub") == 0);
  for (i = 0; i < 100; ++i) {
    errno = 0;
    block = i % 2 ? by_posix_memalign(100 + i) : by_valloc(100 + i);
    REQUIRE(block == NULL || owns(block));
    REQUIRE(block == NULL || (uintptr_t)block % 64 == 0);
    free(block);
  }
  {
    size_t (*usable)(void *);
    *(void **)&usable = find("malloc_usable_size");
    block = malloc(100);
#ifdef KNOWS_SIZES
    REQUIRE(usable(block) == 100);
#else
    REQUIRE(usable(block) == 0);
#endif
    free(block);
  }
  block = calloc(1000, 10);
  for (i = 0; i < 10000; ++i) REQUIRE(block[i] == 0);
  free(block);
  errno = 0;
  REQUIRE(calloc(SIZE_MAX / 4 + 2, 4) == NULL && errno == ENOMEM);
  puts("ok");
  return 0;
}
