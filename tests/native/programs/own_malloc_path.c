// A program with a malloc of its own asks who serves it, from deeper on the stack than anything has been before.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static char heap[1 << 20];
static size_t used;

void *malloc(size_t size) {
  void *block = heap + used;
  used += (size + 31) & ~(size_t)15;
  return block;
}
void *calloc(size_t count, size_t size) { return malloc(count * size); }
void *realloc(void *block, size_t size) { return block == NULL ? malloc(size) : memmove(malloc(size), block, size); }
void free(void *block) { (void)block; }

static void overwrite_the_stack(void) {
  volatile char text[50000];
  size_t i;
  for (i = 0; i < sizeof text; ++i) text[i] = 'x';
}

int main(void) {
  const char *(*allocator)(void);
  *(void **)&allocator = dlsym(RTLD_DEFAULT, "memproxy_allocator");
  overwrite_the_stack();
  return printf("%.1000s\n", allocator()) < 0;
}
