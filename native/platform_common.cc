// What both systems do alike, in calls that neither allocate nor depend on another object's state.

#include <string.h>
#include <sys/types.h>

#include <sys/mman.h>
#include <unistd.h>

#include "platform.h"

const char *platform_environment(const char *name) {
  const size_t length = strlen(name);
  char **entry = platform_environment_list();
  if (entry == nullptr) return nullptr;
  for (; *entry != nullptr; ++entry)
    if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=') return *entry + length + 1;
  return nullptr;
}

void *platform_pages(size_t size) {
#ifdef MAP_ANON
  const int flags = MAP_PRIVATE | MAP_ANON;
#else
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#endif
  void *pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
  return pages == MAP_FAILED ? nullptr : pages;
}

void platform_release_pages(void *pages, size_t size) { munmap(static_cast<char *>(pages), size); }

size_t platform_page_size() {
  const long size = sysconf(_SC_PAGESIZE);
  return size > 0 ? static_cast<size_t>(size) : 8192;  // the largest smallest page of the machines that Solaris runs on
}

void platform_complain(const char *text, size_t length) {
  const ssize_t written = write(2, text, length);
  (void)written;
}
