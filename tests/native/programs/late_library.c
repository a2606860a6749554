// The library of a program, whose end comes behind the end of every preload: it gives back what it took at its start.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *block;

__attribute__((constructor)) static void start(void) { block = memset(malloc(1000), 's', 1000); }

__attribute__((destructor)) static void end(void) {
  block = realloc(block, 2000);
  if (block == NULL || block[999] != 's') _exit(7);
  free(block);
  block = calloc(3, 400);
  free(block);
  (void)!write(1, "very last\n", 10);
}

int late_library(void) { return block == NULL; }
