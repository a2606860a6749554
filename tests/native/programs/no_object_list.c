// A preload that keeps the linker's list of objects from libmemproxy, and leaves an error number behind.
// -DNO_LIBC_EITHER: and a handle on libc, too.
#include <errno.h>
#include <stddef.h>

int dladdr1(const void *address, void *information, void **extra, int flags) {
  errno = EIO;
  return 0;
}

#ifdef NO_LIBC_EITHER
void *dlopen(const char *name, int flags) { return NULL; }
#endif
