// A program linked with jemalloc that gives blocks of its private interface to free, and malloc's to that.
#include <stdio.h>
#include <stdlib.h>

void *mallocx(size_t, int);
void dallocx(void *, int);

int main(void) {
  free(mallocx(100, 0));
  dallocx(malloc(100), 0);
  puts("ok");
}
