/* Says that it runs, and then waits for the end of its standard input, without a call of malloc by its own.
 * -DOWN_MALLOC: with its own malloc. -DEARLY: a library that does so in its constructor. */
#include <stddef.h>
#include <unistd.h>

#ifdef OWN_MALLOC
static char heap[1 << 20] __attribute__((aligned(16)));
static size_t used;
void *malloc(size_t size) {
  void *block = heap + used;
  used += (size + 15) / 16 * 16;
  return used > sizeof heap ? NULL : block;
}
void *calloc(size_t count, size_t size) { return malloc(count * size); }
void *realloc(void *block, size_t size) { return block == NULL ? malloc(size) : NULL; }
void free(void *block) { (void)block; }
#endif

#ifdef EARLY
__attribute__((constructor))
#endif
static void wait_for_the_end(void) {
  char byte;
  if (write(1, "+", 1) != 1) _exit(1);
  while (read(0, &byte, 1) > 0) continue;
}

#ifndef EARLY
int main(void) {
  wait_for_the_end();
  return 0;
}
#endif
