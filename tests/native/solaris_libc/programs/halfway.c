// An object whose initialiser the linker runs whenever it likes (LAB_INITIALISE_IN), in the middle of our decision: it takes
// many blocks of all kinds, more than the bootstrap region holds. main looks at them, moves half and frees all.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kBlocks = 20000 };

void *memalign(size_t, size_t);
void lab_run_initialiser(void (*)(void));

static char *blocks[kBlocks];
static int problems;

static size_t size_of(int i) { return (size_t)i % 97 + 1; }

__attribute__((visibility("protected"))) void lab_initialise(void) {
  int i;
  for (i = 0; i < kBlocks; ++i) {
    switch (i % 4) {
      case 0: blocks[i] = malloc(size_of(i)); break;
      case 1:
        blocks[i] = calloc(size_of(i), 1);
        problems += blocks[i] == NULL || blocks[i][0] != 0 || blocks[i][size_of(i) - 1] != 0;
        break;
      case 2: blocks[i] = realloc(malloc(3), size_of(i)); break;
      default:
        blocks[i] = memalign(256, size_of(i));
        problems += (uintptr_t)blocks[i] % 256 != 0;
    }
    if (blocks[i] == NULL) abort();
    memset(blocks[i], i, size_of(i));
  }
  for (i = 0; i < kBlocks; i += 7) free(blocks[i]), blocks[i] = NULL;
}

#ifdef CONSTRUCTOR
__attribute__((constructor)) static void start(void) { lab_run_initialiser(lab_initialise); }
#endif

int halfway_check(void) {
  int i;
  size_t j;
  for (i = 0; i < kBlocks; ++i) {
    if (blocks[i] == NULL) {
      problems += i % 7 != 0;
      continue;
    }
    if (i % 2 == 0) blocks[i] = realloc(blocks[i], 700);
    for (j = 0; j < size_of(i); ++j) if (blocks[i][j] != (char)i) { ++problems; fprintf(stderr, "%d %zu %p\n", i, j, blocks[i]); }
    free(blocks[i]);
  }
  puts(problems == 0 ? "well" : "not well");
  return problems == 0 ? 0 : 4;
}
