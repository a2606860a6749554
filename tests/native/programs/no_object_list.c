// A preload that keeps the linker's list of objects from libmemproxy, and leaves an error number behind.
#include <errno.h>

int dladdr1(const void *address, void *information, void **extra, int flags) {
  errno = EIO;
  return 0;
}
