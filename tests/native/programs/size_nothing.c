// What realloc and reallocarray give for a block that is to have no bytes.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

int main(void) {
  void *one = realloc(malloc(10), 0);
  void *two = reallocarray(malloc(10), 0, 8);
  printf("%s %s\n", one == NULL ? "null" : "block", two == NULL ? "null" : "block");
}
