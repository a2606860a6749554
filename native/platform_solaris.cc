// Solaris and illumos: getexecname, issetugid, dlsym with handles that load nothing.
#ifdef __sun

#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "platform.h"

extern "C" char **environ;

char **platform_environment_list() { return environ; }

// Not limited to the 16 bytes of ps(1); links followed; perhaps relative. The first call reads /proc/self/auxv, so it is
// null in a chroot without /proc or when no descriptor is free (getexecname(3C)).
const char *platform_executable(char *, size_t) { return getexecname(); }

bool platform_secure() { return issetugid() != 0; }

// ld.so.1 sets `environ` from the initial stack before it runs any initialiser.
bool platform_started() { return true; }

// The message about a name that does not exist is not left for the program's next dlerror.
static void *find(void *handle, const char *name) {
  void *address = dlsym(handle, name);
  if (address == nullptr) dlerror();
  return address;
}

// A function of one loaded object. RTLD_FIRST: this object alone, and no lazy dependency is loaded in search of a name.
static void *find_in(const char *object, const char *name) {
  void *handle = dlopen(object, RTLD_LAZY | RTLD_NOLOAD | RTLD_FIRST);
  if (handle != nullptr) return find(handle, name);
  dlerror();
  return nullptr;
}

// By its bare name, since another variant may be mounted over the file.
void *platform_libc_function(const char *name) { return find_in(kPlatformLibc, name); }

// dlsym runs the initialiser of the object whose symbol it returns.
void platform_initialise(const char *path, const char *function) { find_in(path, function); }

// RTLD_DEFAULT would load every lazy dependency of the program in search of a name that does not exist.
void *platform_public_function(const char *name) { return find(RTLD_PROBE, name); }

#endif
