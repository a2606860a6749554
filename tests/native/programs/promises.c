// What callers may expect of malloc's family whatever serves it: sizes, alignment, contents, errno.
// With an argument: the allocator knows the size of its blocks, and malloc_usable_size must say it.
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

static int knows_sizes;

static int large_enough(void *block, size_t size) {
  const size_t usable = malloc_usable_size(block);
  if (usable == 0 && !knows_sizes) return 1;
  if (usable < size) return 0;
  memset(block, 0x5a, usable);  // all of it is the caller's
  return 1;
}

int main(int argc, char **argv) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *block;
  void *place;
  size_t size;
  void *(*reallocf)(void *, size_t);
  void *(*recallocarray)(void *, size_t, size_t, size_t);
  int (*reallocarr)(void *, size_t, size_t);
  size_t (*good_size)(size_t);

  knows_sizes = argc > 1;

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
  // Alignments that no size class has; from Scudo up to 16 MiB only.
  for (size = 1 << 20; size <= 64 << 20; size *= 4) {
    errno = 0;
    place = memalign(size, 100);
    if (place == NULL && size > 16 << 20 && errno == ENOMEM) continue;
    REQUIRE(place != NULL && aligned(place, size));
    memset(place, 1, 100);
    REQUIRE((place = realloc(place, 5000)) != NULL && ((char *)place)[99] == 1);
    free(place);
    REQUIRE(posix_memalign(&place, size, 3 * page) == 0 && aligned(place, size) && large_enough(place, 3 * page));
    free(place);
  }
  // memalign with an alignment that is none: rounded up by glibc; no block at all or an aligned one.
  REQUIRE((place = memalign(3, 10)) == NULL || aligned(place, 4));
  free(place);
  free(memalign(0, 10));
  REQUIRE(memalign(SIZE_MAX / 2 + 2, 10) == NULL);
  REQUIRE((place = memalign(64, 0)) == NULL || aligned(place, 64));
  free(place);
  REQUIRE(posix_memalign(&place, 64, 0) == 0);
  free(place);
  // Aligned blocks grow and shrink as others do.
  for (size = 16; size <= 65536; size *= 4) {
    REQUIRE((block = memalign(size, 300)) != NULL && large_enough(block, 300));
    memset(block, 'a', 300);
    REQUIRE((block = realloc(block, 70000)) != NULL && block[0] == 'a' && block[299] == 'a' && large_enough(block, 70000));
    memset(block, 'b', 70000);
    REQUIRE((block = realloc(block, 20)) != NULL && block[0] == 'b' && block[19] == 'b' && large_enough(block, 20));
    free(block);
  }
  REQUIRE((place = valloc(10)) != NULL && aligned(place, page));
  free(place);
  REQUIRE((place = pvalloc(page + 1)) != NULL && aligned(place, page));
  memset(place, 1, 2 * page);  // rounded up to whole pages
  REQUIRE(malloc_usable_size(place) == 0 || malloc_usable_size(place) >= 2 * page);
  free(place);

  // Recycled memory is zeroed too.
  for (size = 8; size < 3000000; size *= 5) {
    int i;
    for (i = 0; i < 20; ++i) {
      REQUIRE((block = malloc(size)) != NULL && large_enough(block, size));
      memset(block, 'r', size);
      free(block);
      REQUIRE((block = calloc(1, size)) != NULL && zeroed(block, size) && large_enough(block, size));
      free(block);
    }
  }

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
