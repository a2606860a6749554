// memalign with alignments that are smaller than a pointer, as the C libraries take them, and what it says of those that nobody takes.
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
  volatile size_t alignment;
  size_t size;
  for (alignment = 1; alignment <= 2 * sizeof(void *); alignment *= 2)
    for (size = 1; size < 3000; size = size * 2 + 1) {
      char *block = memalign(alignment, size);
      if (block == NULL || (uintptr_t)block % alignment != 0) return printf("memalign(%zu, %zu): %p\n", alignment, size, block), 3;
      memset(block, 'x', size);
      if (size % 3 == 0) block = realloc(block, size + 500);
      if (block[0] != 'x' || block[size - 1] != 'x') return puts("contents"), 3;
      free(block);
    }
  errno = 0;
  alignment = SIZE_MAX / 2 + 3;
  if (memalign(alignment, 10) != NULL || errno != EINVAL) return printf("alignment too large: errno %d\n", errno), 3;
  errno = 0;
  alignment = 64;
  if (memalign(alignment, SIZE_MAX - 100) != NULL || errno != ENOMEM) return printf("size too large: errno %d\n", errno), 3;
  puts("ok");
  return 0;
}
