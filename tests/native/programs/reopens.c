// Started with descriptors 0 to 2 closed: opens the file of its argument until one of its descriptors is 2, writes there, and
// says by its status whether they were free: 0 if they were.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
  int i;
  for (i = 0; i < 3; ++i)
    if (open(argv[argc - 1], O_RDWR | O_APPEND) != i) return 4;
  free(malloc(100));
  return write(2, "mine\n", 5) != 5;
}
