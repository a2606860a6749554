// Calls each function that hands out memory, by its public name, and prints who served it: one line of JSON, name to owner.
// Each block is filled, measured, made larger and given back in every way. With an argument: the names that are called, one a line.
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
static void *by_nothrow_now(size_t size) { return by_two(size, (size_t)&current); }  // the tag is never looked at
static void *by_aligned_new_now(size_t size) { return by_two(size, 64); }
static void *by_aligned_nothrow_now(size_t size) {
  void *(*function)(size_t, size_t, const void *);
  *(void **)&function = find(current);
  return function(size, 64, &current);
}
static void *by_posix_memalign_now(size_t size) {
  int (*function)(void **, size_t, size_t);
  void *block = NULL;
  *(void **)&function = find(current);
  return function(&block, 64, size) == 0 ? block : NULL;
}

#ifdef __LP64__
#define SIZE "m"
#else
#define SIZE "j"
#endif
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
           {"_Znw" SIZE, by_one_now},
           {"_Zna" SIZE, by_one_now},
           {"_Znw" SIZE "RKSt9nothrow_t", by_nothrow_now},
           {"_Zna" SIZE "RKSt9nothrow_t", by_nothrow_now},
           {"_Znw" SIZE "St11align_val_t", by_aligned_new_now},
           {"_Zna" SIZE "St11align_val_t", by_aligned_new_now},
           {"_Znw" SIZE "St11align_val_tRKSt9nothrow_t", by_aligned_nothrow_now},
           {"_Zna" SIZE "St11align_val_tRKSt9nothrow_t", by_aligned_nothrow_now},
};

// How to give a block back. All but the first have more parameters, which say its size and alignment or nothing.
enum kind { kBlock, kSize, kAlignment, kAlignmentSize, kSizeAlignment };
static const struct {
  const char *name;
  enum kind kind;
} releases[] = {{"free", kBlock},
                {"cfree", kBlock},
                {"vfree", kBlock},
                {"freezeroall", kBlock},
#ifndef NO_INTERNAL_NAMES
                {"__libc_free", kBlock},
                {"__libc_cfree", kBlock},
#endif
                {"free_sized", kSize},
                {"freezero", kSize},
                {"free_aligned_sized", kAlignmentSize},
                {"_ZdlPv", kBlock},
                {"_ZdaPv", kBlock},
                {"_ZdlPv" SIZE, kSize},
                {"_ZdaPv" SIZE, kSize},
                {"_ZdlPvRKSt9nothrow_t", kAlignment},  // a reference, never looked at
                {"_ZdaPvRKSt9nothrow_t", kAlignment},
                {"_ZdlPvSt11align_val_t", kAlignment},
                {"_ZdaPvSt11align_val_t", kAlignment},
                {"_ZdlPvSt11align_val_tRKSt9nothrow_t", kAlignmentSize},
                {"_ZdaPvSt11align_val_tRKSt9nothrow_t", kAlignmentSize},
                {"_ZdlPv" SIZE "St11align_val_t", kSizeAlignment},
                {"_ZdaPv" SIZE "St11align_val_t", kSizeAlignment}};
static const char *const sizes[] = {"malloc_usable_size", "malloc_size"};

static void give_back(size_t number, void *block, size_t size) {
  void (*release)(void *, size_t, size_t);  // the caller cleans up, so more arguments do no harm
  *(void **)&release = find(releases[number].name);
  REQUIRE(release != NULL);
  switch (releases[number].kind) {
    case kSize:
    case kSizeAlignment: release(block, size, 64); break;
    case kAlignment:
    case kAlignmentSize: release(block, 64, size); break;
    default: release(block, 0, 0);
  }
}

static void measure(void *block) {
  size_t i;
  for (i = 0; i < 2; ++i) {
    size_t (*size)(void *);
    *(void **)&size = find(sizes[i]);
    REQUIRE(size(block) == 0 || size(block) >= 1000);
  }
}

int main(int argc, char **argv) {
  size_t i, j;
  if (argc > 1) {
    for (i = 0; i < sizeof all / sizeof *all; ++i) puts(all[i].name);
    for (i = 0; i < sizeof releases / sizeof *releases; ++i) puts(releases[i].name);
    for (i = 0; i < sizeof sizes / sizeof *sizes; ++i) puts(sizes[i]);
    return 0;
  }
  printf("{");
  for (i = 0; i < sizeof all / sizeof *all; ++i) {
    current = all[i].name;
    REQUIRE(find(current) != NULL);
    printf("%s\"%s\": \"%s\"", i == 0 ? "" : ", ", current, owner_of(all[i].allocate));
    for (j = 0; j < sizeof releases / sizeof *releases; ++j) {
      char *block = all[i].allocate(1000);
      REQUIRE(block != NULL);
      memset(block, 7, 1000);
      measure(block);
      give_back(j, block, 1000);
    }
    {
      char *block = all[i].allocate(1000);
      memset(block, 7, 1000);
      block = realloc(block, 100000);
      REQUIRE(block != NULL && block[0] == 7 && block[999] == 7);
      memset(block, 9, 100000);
      free(block);
    }
  }
  puts("}");
  return 0;
}
