// Before any initialiser has run, asks for memory in the way that argv[1] names; main then uses the block as its owner would.
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kSize = 100, kPage = 4096 };
static char *block;

static void require(int condition, const char *what) {
  if (condition) return;
  (void)!write(2, what, strlen(what));
  (void)!write(2, "\n", 1);
  _exit(3);
}

static char *aligned(char *fresh, size_t alignment) {
  require((uintptr_t)fresh % alignment == 0, "alignment");
  return fresh;
}

static void first(int argc, char **argv) {
  const char *way = argv[1];
  void *place = NULL;
  if (strcmp(way, "free") == 0) {
    free(NULL);
  } else if (strcmp(way, "malloc") == 0) {
    block = malloc(kSize);
  } else if (strcmp(way, "malloc-of-nothing") == 0) {
    char *one = malloc(0), *two = malloc(0);
    require(one != NULL && two != NULL && one != two, "malloc(0)");
    free(one);
    free(two);
  } else if (strcmp(way, "malloc-of-too-much") == 0) {
    errno = 0;
    require(malloc(SIZE_MAX / 2) == NULL && errno == ENOMEM, "malloc of too much");
  } else if (strcmp(way, "calloc") == 0) {
    static const char zeros[kSize];
    block = calloc(kSize / 4, 4);
    require(block != NULL && memcmp(block, zeros, kSize) == 0, "calloc");
  } else if (strcmp(way, "calloc-of-too-much") == 0) {
    volatile size_t count = SIZE_MAX / 16 + 2;
    errno = 0;
    require(calloc(count, 16) == NULL && errno == ENOMEM, "calloc of too much");
  } else if (strcmp(way, "realloc") == 0) {
    block = realloc(NULL, kSize);
  } else if (strcmp(way, "realloc-of-a-block") == 0) {
    block = realloc(NULL, 3);
    strcpy(block, "ab");
    block = realloc(block, kSize);
    require(strcmp(block, "ab") == 0, "contents after realloc");
  } else if (strcmp(way, "memalign") == 0) {
    block = aligned(memalign(256, kSize), 256);
  } else if (strcmp(way, "aligned_alloc") == 0) {
    block = aligned(aligned_alloc(64, 128), 64);
  } else if (strcmp(way, "posix_memalign") == 0) {
    require(posix_memalign(&place, 512, kSize) == 0, "posix_memalign");
    block = aligned(place, 512);
  } else if (strcmp(way, "valloc") == 0) {
    block = aligned(valloc(kSize), kPage);
  } else if (strcmp(way, "malloc_usable_size") == 0) {
    require(malloc_usable_size(NULL) == 0, "malloc_usable_size(NULL)");
  } else {
    require(0, "there is no such way");
  }
  if (block != NULL) memset(block, 'x', kSize);
}
__attribute__((section(".preinit_array"), used)) static void (*const start)(int, char **) = first;

static void holds(size_t size) {
  while (size-- > 0) require(block[size] == 'x', "contents in main");
}

int main(int argc, char **argv) {
  static const char *const without[] = {"free", "malloc-of-", "calloc-of-", "malloc_usable_size"};
  size_t i, blocks = 1;
  for (i = 0; i < sizeof without / sizeof *without; ++i)
    if (strncmp(argv[1], without[i], strlen(without[i])) == 0) blocks = 0;
  require((block != NULL) == blocks, "the block");
  if (block != NULL) {
    holds(kSize);
    require(malloc_usable_size(block) == 0 || malloc_usable_size(block) >= kSize, "malloc_usable_size in main");
    block = realloc(block, 50 * kSize);
    holds(kSize);
    block = realloc(block, kSize / 2);
    holds(kSize / 2);
    free(block);
  }
  for (i = 0; i < 1000; ++i) free(realloc(malloc(i), 2 * i + 1));
  return 0;
}
