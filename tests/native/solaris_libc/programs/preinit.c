// A program whose preinit array, which runs before any initialiser, uses the family; so does its exit handler.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *memalign(size_t, size_t);

static char *early[4];

static void preinit(void) {
  early[0] = strcpy(malloc(101), "malloc");
  early[1] = calloc(10, 10);
  early[2] = strcpy(realloc(malloc(3), 1000), "realloc");
  early[3] = memalign(64, 100);
  free(malloc(5));
}

__attribute__((section(".preinit_array"), used)) static void (*const entry)(void) = preinit;

static void last(void) {
  int i;
  for (i = 0; i < 4; ++i) free(early[i]);
  puts("well");
}

int main(void) {
  if (strcmp(early[0], "malloc") != 0 || early[1][99] != 0 || strcmp(early[2], "realloc") != 0 || (size_t)early[3] % 64 != 0)
    return 4;
  early[0] = realloc(early[0], 5000);
  if (strcmp(early[0], "malloc") != 0) return 5;
  return atexit(last);
}
