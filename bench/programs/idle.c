/* Says that it is ready, and waits to be killed: a process to be weighed. */
#include <stdlib.h>
#include <unistd.h>

int main(void) {
  char *volatile block = malloc(100);
  if (block == NULL || write(1, "\n", 1) != 1) return 1;
  for (;;) pause();
}
