// What Linux and Solaris do differently: one function for each difference.
#ifndef MEMPROXY_PLATFORM_H
#define MEMPROXY_PLATFORM_H

#include <stddef.h>

// DT_SONAME of the C library.
#ifdef __sun
static const char kPlatformLibc[] = "libc.so.1";
#else
static const char kPlatformLibc[] = "libc.so.6";
#endif

// Does the system's memalign refuse alignments that are zero or no multiple of four?
#ifdef __sun
static const bool kPlatformMemalignIsStrict = true;
#else
static const bool kPlatformMemalignIsStrict = false;
#endif

// The executable's path, by the system and not by argv[0], in `buffer` or elsewhere; null if the system does not tell.
const char *platform_executable(char *buffer, size_t size);

// True if the process has more rights than who started it: nothing in its environment may be believed.
bool platform_secure();

// The environment as the C library holds it; null as long as it does not.
char **platform_environment_list();

// The value of an environment variable, or null. Allocates nothing and takes no lock.
const char *platform_environment(const char *name);

// False as long as the C library has not yet taken over the environment, which is before its own initialiser.
bool platform_started();

// A function of the C library by dlsym, for the case that the linker's list cannot be read.
void *platform_libc_function(const char *name);

// A function that any loaded object makes public, by dlsym; loads nothing. Null if there is none.
void *platform_public_function(const char *name);

// Has the linker run the initialiser of the object at `path`, which defines `function`, if it has not yet: Solaris' does so when
// it binds a call to an object, and some allocators rely on it; a call of ours is none that it binds. Nothing on Linux.
void platform_initialise(const char *path, const char *function);

// Fresh zeroed pages, or null.
void *platform_pages(size_t size);
void platform_release_pages(void *pages, size_t size);

size_t platform_page_size();

// One write(2) to standard error; an interrupted or failed one is not repeated.
void platform_complain(const char *text, size_t length);

#endif
