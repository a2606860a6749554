// Asks for a little memory: 0 if there is some, 7 if there is none.
#include <stdlib.h>
#include <string.h>

int main(void) {
  char *block = malloc(1000);
  if (block == NULL) return 7;
  memset(block, 1, 1000);
  free(block);
  return 0;
}
