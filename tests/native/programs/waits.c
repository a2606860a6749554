/* A process that says it is there, and lives until its input ends. */
#include <stdio.h>

int main(void) {
  puts("here");
  fflush(stdout);
  return getchar() != EOF;
}
