// Linux with glibc: /proc/self/exe, AT_SECURE, dlsym.
#ifdef __linux__

#ifndef _GNU_SOURCE
#define _GNU_SOURCE  // RTLD_NEXT
#endif
#include <dlfcn.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform.h"

// Not `environ`: a program may have a variable of this name.
extern "C" char **__environ;

char **platform_environment_list() { return __environ; }

// The kernel marks the path of a program whose file is gone. A file may also really be called so.
static bool drop_deleted_mark(char *path, size_t length) {
  static const char mark[] = " (deleted)";
  const size_t size = sizeof mark - 1;
  if (length <= size || memcmp(path + length - size, mark, size) != 0) return false;
  if (syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0) return false;
  path[length - size] = '\0';
  return true;
}

const char *platform_executable(char *buffer, size_t size) {
  // By system call: programs and other preloads define functions called readlink.
  const long length = syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", buffer, size - 1);
  if (length > 0) {
    buffer[length] = '\0';
    drop_deleted_mark(buffer, static_cast<size_t>(length));
    return buffer;
  }
  return reinterpret_cast<const char *>(getauxval(AT_EXECFN));
}

bool platform_secure() { return getauxval(AT_SECURE) != 0; }

bool platform_started() { return __environ != nullptr; }

// The message about a name that does not exist is not left for the program's next dlerror.
static void *find(void *handle, const char *name) {
  void *address = dlsym(handle, name);
  if (address == nullptr) dlerror();
  return address;
}

void *platform_libc_function(const char *name) {
  // A handle on libc would search its dependencies too, but those, ld.so alone, have no other malloc to offer.
  void *libc = dlopen(kPlatformLibc, RTLD_LAZY | RTLD_NOLOAD);
  return libc == nullptr ? nullptr : find(libc, name);
}

void *platform_public_function(const char *name) { return find(RTLD_DEFAULT, name); }

void platform_initialise(const char *, const char *) {}

#endif
