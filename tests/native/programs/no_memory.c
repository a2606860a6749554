// With an allocator that never has any memory: each function says so as the C library would, and nothing else serves.
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>

#include "owner.h"

int main(void) {
  static const struct {
    const char *name;
    void *(*allocate)(size_t);
  } more[] = {{"memalign", by_memalign},         {"aligned_alloc", by_aligned_alloc}, {"valloc", by_valloc},
              {"pvalloc", by_pvalloc},           {"reallocarray", by_reallocarray},   {"reallocf", by_reallocf},
              {"calloc", by_calloc}};
  void *(*nothrow)(size_t, const void *);
  void *place = &place;
  size_t i;
  errno = 0;
  REQUIRE(malloc(10) == NULL && errno == ENOMEM);
  errno = 0;
  REQUIRE(malloc(0) == NULL && errno == ENOMEM);
  errno = 0;
  REQUIRE(realloc(NULL, 10) == NULL && errno == ENOMEM);
  for (i = 0; i < sizeof more / sizeof *more; ++i) {
    errno = 0;
    if (more[i].allocate(100) != NULL || errno != ENOMEM) {
      fprintf(stderr, "%s: errno %d\n", more[i].name, errno);
      return 3;
    }
  }
  errno = 77;
  REQUIRE(posix_memalign(&place, 64, 10) == ENOMEM && place == &place && errno == 77);
  *(void **)&nothrow = find(sizeof i == 8 ? "_ZnwmRKSt9nothrow_t" : "_ZnwjRKSt9nothrow_t");
  REQUIRE(nothrow(10, &i) == NULL);
  free(NULL);
  puts("ok");
  return 0;
}
