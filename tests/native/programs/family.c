// Calls each function that hands out memory, by its public name, and prints who served it: one line of JSON, name to owner.
// Each block is filled, measured and given back.
#define _GNU_SOURCE
#include <errno.h>

#include "owner.h"

static const char *current;
static void *by_two(size_t a, size_t b) {
  void *(*function)(size_t, size_t);
  *(void **)&function = find(current);
  return function(a, b);
}
static void *by_one_now(size_t size) { return by_one(current, size); }
static void *by_aligned_now(size_t size) { return by_two(64, size); }
static void *by_count_now(size_t size) { return by_two(size, 1); }
static void *by_realloc_now(size_t size) {
  void *(*function)(void *, size_t);
  *(void **)&function = find(current);
  return function(malloc(1), size);
}
static void *by_reallocarray_now(size_t size) {
  void *(*function)(void *, size_t, size_t);
  *(void **)&function = find(current);
  return function(malloc(1), size, 1);
}
static void *by_recallocarray_now(size_t size) {
  void *(*function)(void *, size_t, size_t, size_t);
  *(void **)&function = find(current);
  return function(malloc(1), 1, size, 1);
}
static void *by_reallocarr_now(size_t size) {
  int (*function)(void *, size_t, size_t);
  void *block = malloc(1);
  *(void **)&function = find(current);
  REQUIRE(function(&block, size, 1) == 0);
  return block;
}
static void *by_posix_memalign_now(size_t size) {
  int (*function)(void **, size_t, size_t);
  void *block = NULL;
  *(void **)&function = find(current);
  return function(&block, 64, size) == 0 ? block : NULL;
}

static const struct {
  const char *name;
  void *(*allocate)(size_t);
} all[] = {{"malloc", by_one_now},
           {"calloc", by_count_now},
           {"realloc", by_realloc_now},
           {"memalign", by_aligned_now},
           {"posix_memalign", by_posix_memalign_now},
           {"aligned_alloc", by_aligned_now},
           {"valloc", by_one_now},
           {"pvalloc", by_one_now},
           {"reallocarray", by_reallocarray_now},
           {"reallocf", by_realloc_now},
           {"recallocarray", by_recallocarray_now},
           {"reallocarr", by_reallocarr_now},
           {"_aligned_malloc", by_aligned_now},
#ifndef NO_INTERNAL_NAMES
           {"__libc_malloc", by_one_now},
           {"__libc_calloc", by_count_now},
           {"__libc_realloc", by_realloc_now},
           {"__libc_memalign", by_aligned_now},
           {"__libc_valloc", by_one_now},
           {"__libc_pvalloc", by_one_now},
           {"__posix_memalign", by_posix_memalign_now},
#endif
};

static void give_back(const char *name, void *block) {
  void (*release)(void *);
  *(void **)&release = find(name);
  release(block);
}

int main(void) {
  static const char *const releases[] = {"free", "cfree", "vfree", "freezeroall",
#ifndef NO_INTERNAL_NAMES
                                         "__libc_free", "__libc_cfree"
#endif
  };
  size_t i, j;
  printf("{");
  for (i = 0; i < sizeof all / sizeof *all; ++i) {
    current = all[i].name;
    REQUIRE(find(current) != NULL);
    printf("%s\"%s\": \"%s\"", i == 0 ? "" : ", ", current, owner_of(all[i].allocate));
    for (j = 0; j < sizeof releases / sizeof *releases; ++j) {
      char *block = all[i].allocate(1000);
      size_t (*size)(void *);
      REQUIRE(block != NULL);
      memset(block, 7, 1000);
      *(void **)&size = find("malloc_usable_size");
      REQUIRE(size(block) == 0 || size(block) >= 1000);
      *(void **)&size = find("malloc_size");
      REQUIRE(size(block) == 0 || size(block) >= 1000);
      REQUIRE(find(releases[j]) != NULL);
      give_back(releases[j], block);
    }
    {
      void (*sized)(void *, size_t);
      void (*aligned_sized)(void *, size_t, size_t);
      *(void **)&sized = find("free_sized");
      sized(all[i].allocate(1000), 1000);
      *(void **)&sized = find("freezero");
      sized(all[i].allocate(1000), 1000);
      *(void **)&aligned_sized = find("free_aligned_sized");
      aligned_sized(all[i].allocate(1000), 64, 1000);
    }
    {
      char *block = realloc(all[i].allocate(1000), 100000);
      REQUIRE(block != NULL);
      memset(block, 9, 100000);
      free(block);
    }
  }
  puts("}");
  return 0;
}
