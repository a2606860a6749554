// Owns malloc, as the program or as a preload, and makes it from glibc's own names for it.
#include <stddef.h>
#include <stdio.h>
#include <string.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

static int calls;

void *malloc(size_t size) {
  ++calls;
  return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
  ++calls;
  return __libc_calloc(count, size);
}
void *realloc(void *block, size_t size) {
  ++calls;
  return __libc_realloc(block, size);
}
void free(void *block) { __libc_free(block); }

int malloc_by_libc_calls(void) { return calls; }

#ifndef PRELOAD
int main(void) {
  char *text = strdup("text");
  text = realloc(text, 100000);
  int wrong = strcmp(text, "text");
  free(text);
  char *zeros = calloc(100, 100);
  wrong |= zeros[9999];
  free(zeros);
  free(realloc(NULL, 0));
  puts(wrong ? "wrong" : calls < 4 ? "not called" : "ok");
  return 0;
}
#endif
