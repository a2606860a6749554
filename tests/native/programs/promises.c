// What callers may expect of malloc's family whatever serves it: sizes, alignment, contents, errno.
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <unistd.h>

#include "owner.h"

static volatile size_t huge = SIZE_MAX - (1 << 20);  // the compiler must not see what is asked for

static int zeroed(const char *block, size_t size) {
  while (size > 0)
    if (block[--size] != 0) return 0;
  return 1;
}

static int aligned(const void *block, size_t alignment) { return (uintptr_t)block % alignment == 0; }

int main(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *block;
  void *place;
  size_t size;
  void *(*reallocf)(void *, size_t);
  void *(*recallocarray)(void *, size_t, size_t, size_t);
  int (*reallocarr)(void *, size_t, size_t);
  size_t (*good_size)(size_t);

  // A request for nothing is not a failure.
  REQUIRE((block = malloc(0)) != NULL);
  free(block);
  REQUIRE((block = calloc(0, 5)) != NULL);
  free(block);
  REQUIRE((block = calloc(5, 0)) != NULL);
  free(block);
  REQUIRE((block = realloc(NULL, 0)) != NULL);
  REQUIRE(realloc(block, 0) == NULL);  // as the C libraries of both systems: freed
  free(NULL);
  REQUIRE(malloc_usable_size(NULL) == 0);

  // What cannot be had says so, in errno too.
  errno = 0;
  REQUIRE(malloc(huge) == NULL && errno == ENOMEM);
  errno = 0;
  REQUIRE(calloc(huge, 2) == NULL && errno == ENOMEM);
  errno = 0;
  REQUIRE(calloc(SIZE_MAX / 2 + 2, 2) == NULL && errno == ENOMEM);
  errno = 0;
  REQUIRE(calloc(SIZE_MAX / 16 + 2, 16) == NULL && errno == ENOMEM);
  REQUIRE((block = malloc(10)) != NULL);
  memcpy(block, "contents", 9);
  errno = 0;
  REQUIRE(realloc(block, huge) == NULL && errno == ENOMEM);
  REQUIRE(strcmp(block, "contents") == 0);
  errno = 0;
  REQUIRE(reallocarray(block, SIZE_MAX / 4 + 2, 4) == NULL && errno == ENOMEM);
  REQUIRE(strcmp(block, "contents") == 0);
  errno = 0;
  REQUIRE(memalign(64, huge) == NULL && errno == ENOMEM);
  errno = 0;
  REQUIRE(aligned_alloc(64, huge & ~(size_t)63) == NULL && errno == ENOMEM);
  errno = 0;
  REQUIRE(valloc(huge) == NULL && errno == ENOMEM);
  errno = 0;
  REQUIRE(pvalloc(SIZE_MAX - 5) == NULL && errno == ENOMEM);

  // posix_memalign: the result tells; the pointer stays on failure.
  place = &place;
  REQUIRE(posix_memalign(&place, 3, 10) == EINVAL && place == &place);
  REQUIRE(posix_memalign(&place, 0, 10) == EINVAL && place == &place);
  REQUIRE(posix_memalign(&place, sizeof(void *) / 2, 10) == EINVAL && place == &place);
  REQUIRE(posix_memalign(&place, 64, huge) == ENOMEM && place == &place);
  for (size = sizeof(void *); size <= 65536; size *= 2) {
    REQUIRE(posix_memalign(&place, size, 100) == 0 && aligned(place, size));
    memset(place, 1, 100);
    free(place);
    REQUIRE((place = aligned_alloc(size, size)) != NULL && aligned(place, size));
    free(place);
  }
  // memalign takes what libc takes, also less than a pointer's size.
  for (size = 4; size <= 65536; size *= 2) {
    REQUIRE((place = memalign(size, 100)) != NULL && aligned(place, size));
    memset(place, 1, 100);
    free(place);
  }
  REQUIRE((place = valloc(10)) != NULL && aligned(place, page));
  free(place);
  REQUIRE((place = pvalloc(page + 1)) != NULL && aligned(place, page));
  memset(place, 1, 2 * page);  // rounded up to whole pages
  REQUIRE(malloc_usable_size(place) == 0 || malloc_usable_size(place) >= 2 * page);
  free(place);

  // Contents.
  for (size = 1; size < 300000; size = size * 3 + 1) {
    REQUIRE((block = calloc(size, 1)) != NULL && zeroed(block, size));
    REQUIRE(aligned(block, size >= 16 ? 8 : 4));
    memset(block, 'x', size);
    REQUIRE((block = realloc(block, size * 2)) != NULL && block[0] == 'x' && block[size - 1] == 'x');
    free(block);
  }

  // BSD's.
  *(void **)&reallocf = find("reallocf");
  *(void **)&recallocarray = find("recallocarray");
  *(void **)&reallocarr = find("reallocarr");
  *(void **)&good_size = find("malloc_good_size");
  errno = 0;
  REQUIRE(reallocf(malloc(10), huge) == NULL && errno == ENOMEM);
  REQUIRE((block = recallocarray(NULL, 0, 10, 10)) != NULL && zeroed(block, 100));
  memset(block, 'y', 100);
  REQUIRE((block = recallocarray(block, 10, 20, 10)) != NULL && block[99] == 'y' && zeroed(block + 100, 100));
  errno = 0;
  REQUIRE(recallocarray(block, 20, SIZE_MAX / 4 + 2, 4) == NULL && errno == ENOMEM && block[99] == 'y');
  errno = 77;
  REQUIRE(reallocarr(&block, 3, 100) == 0 && errno == 77 && block[99] == 'y');
  REQUIRE(reallocarr(&block, SIZE_MAX / 4 + 2, 4) == EOVERFLOW && block[99] == 'y');
  REQUIRE(reallocarr(&block, 0, 100) == 0 && block == NULL);
  REQUIRE(good_size(100) >= 100);

  // Freeing changes nothing.
  REQUIRE((block = malloc(100)) != NULL);
  errno = 77;
  free(block);
  REQUIRE(errno == 77);

  // Reports can be asked for whoever serves.
  mallinfo();
  mallopt(-12345, 0);
  malloc_trim(0);
  puts("ok");
  return 0;
}
