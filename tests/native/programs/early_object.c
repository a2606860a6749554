// An ordinary dependency of a program, whose constructor runs before any preload's and asks for memory.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kBlocks = 10000 };
static char *blocks[kBlocks];
static int overflowed;

__attribute__((constructor)) static void start(void) {
  int i;
  static volatile size_t many = SIZE_MAX / 4 + 2;
  free(malloc(10));
  overflowed = calloc(many, 4) != NULL;
  for (i = 0; i < kBlocks; ++i) {
    blocks[i] = i % 3 == 0 ? malloc((size_t)i % 200 + 1) : i % 3 == 1 ? calloc((size_t)i % 200 + 1, 1) : realloc(NULL, (size_t)i % 200 + 1);
    memset(blocks[i], i, (size_t)i % 200 + 1);
  }
}

int early_object_check(void) {
  int i, j, problems = overflowed;
  for (i = 0; i < kBlocks; ++i) {
    if (i % 2 == 0) blocks[i] = realloc(blocks[i], 500);
    for (j = 0; j < i % 200 + 1; ++j) problems += blocks[i][j] != (char)i;
    free(blocks[i]);
  }
  return problems;
}
