// platform_solaris.cc, compiled for Solaris, run against a stand-in for its libc: what it asks of the run-time linker, a line
// each. The handles' numbers are those of Solaris' dlfcn.h.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "platform.h"

static bool libc_can_be_opened = true;
static char handle_of_libc;

static const char *name_of(const void *handle) {
  if (handle == &handle_of_libc) return "libc";
  switch (reinterpret_cast<intptr_t>(handle)) {
    case 0: return "null";
    case -1: return "RTLD_NEXT";
    case -2: return "RTLD_DEFAULT";
    case -3: return "RTLD_SELF";
    case -4: return "RTLD_PROBE";
    default: return "unknown";
  }
}

extern "C" {
void *dlopen(const char *file, int mode) noexcept {
  const bool loads_nothing = (mode & 0x4) != 0;  // RTLD_NOLOAD
  const bool alone = (mode & 0x2000) != 0;       // RTLD_FIRST
  printf("dlopen %s%s%s\n", file, loads_nothing ? " NOLOAD" : "", alone ? " FIRST" : "");
  return libc_can_be_opened ? &handle_of_libc : nullptr;
}
void *dlsym(void *handle, const char *name) noexcept {
  printf("dlsym %s %s\n", name_of(handle), name);
  return strcmp(name, "malloc") == 0 ? reinterpret_cast<void *>(&handle_of_libc) : nullptr;
}
int dlclose(void *handle) noexcept { return printf("dlclose %s\n", name_of(handle)); }
char *dlerror() noexcept { return nullptr; }
const char *getexecname() { return nullptr; }
int issetugid() { return 0; }
}

int main() {
  printf("-> %s\n", platform_libc_function("malloc") != nullptr ? "found" : "null");
  printf("-> %s\n", platform_libc_function("absent") != nullptr ? "found" : "null");
  printf("-> %s\n", platform_public_function("malloc") != nullptr ? "found" : "null");
  libc_can_be_opened = false;
  printf("-> %s\n", platform_libc_function("malloc") != nullptr ? "found" : "null");
  printf("executable %s\n", platform_executable(nullptr, 0) == nullptr ? "null" : "known");
  return 0;
}
