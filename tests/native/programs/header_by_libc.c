// A library whose malloc puts a header in front of what glibc's internal names give and counts, and that hands a block of its own
// out (-DLIBRARY -shared); with -DALIGNED its malloc comes from __libc_memalign alone. And a program that frees both kinds.
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *library_copy(const char *text);
long library_count(void);

#ifdef LIBRARY
void *__libc_malloc(size_t);
void *__libc_memalign(size_t, size_t);
void *__libc_realloc(void *, size_t);
void __libc_free(void *);
static long count;
long library_count(void) { return count; }
#ifdef ALIGNED
enum { HEADER = 0 };
void *malloc(size_t size) { return ++count, __libc_memalign(64, size); }
#else
enum { HEADER = 16 };
void *malloc(size_t size) {
  char *block = __libc_malloc(size + HEADER);
  return block == NULL ? NULL : (++count, block + HEADER);
}
#endif
void free(void *block) {
  if (block != NULL) __libc_free((char *)block - HEADER);
}
void *realloc(void *block, size_t size) {
  if (block == NULL) return malloc(size);
  char *fresh = __libc_realloc((char *)block - HEADER, size + HEADER);
  return fresh == NULL ? NULL : fresh + HEADER;
}
void *calloc(size_t count, size_t size) {
  void *block = malloc(count * size);
  return block == NULL ? NULL : memset(block, 0, count * size);
}
char *library_copy(const char *text) { return strcpy(malloc(strlen(text) + 1), text); }
#else
int main(void) {
  char *mine = malloc(10);
  char *theirs = library_copy("x");
  char *third = realloc(strdup("text"), 100000);
  if (library_count() < 3 || strcmp(third, "text") != 0) return puts("passed over"), 1;
  free(theirs);
  free(mine);
  free(third);
  puts("ok");
}
#endif
