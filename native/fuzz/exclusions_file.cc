// Fuzz target: exclusions_lookup on a real file (one in memory): its answer, and that it leaves nothing behind.
#include "../exclusions.cc"

#include <sys/mman.h>

#include "exclusions_reference.h"

static int list_file;
static const char kDirectory[] = "/usr/lib";

extern "C" int LLVMFuzzerInitialize(int *, char ***) {
  list_file = memfd_create("list", 0);
  demand(list_file >= 0 && chdir(kDirectory) == 0, "no file in memory");
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const Input input(data, size);
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", list_file);
  const ssize_t length = static_cast<ssize_t>(input.list.size());
  demand(ftruncate(list_file, 0) == 0 && pwrite(list_file, input.list.data(), input.list.size(), 0) == length, "no room");
  const int free_descriptor = dup(0);
  close(free_descriptor);

  Answer got = {false, static_cast<Route>(77), 77777};
  errno = 4242;
  got.found = exclusions_lookup(path, input.name.c_str(), &got.route, &got.line);
  demand(errno == 4242, "errno has changed");
  demand(got.found || (got.route == static_cast<Route>(77) && got.line == 77777), "a result without an answer");
  const int now_free = dup(0);
  close(now_free);
  demand(now_free == free_descriptor, "a descriptor is left open");
  demand(exclusions_lookup(path, input.name.c_str(), nullptr, nullptr) == got.found, "another answer without results");

  std::string name = input.name;
  if (!name.empty() && name[0] != '/') {
    if (name[0] == '.') return 0;  // a test of its own: relative names with dots
    const std::string whole = std::string(kDirectory) + "/" + name;
    name = whole.size() > kMaxName ? name : whole;
  }
  if (name.size() > kMaxName) name = name.substr(name.rfind('/') + 1);
  if (name.size() > kMaxName) name = "";
  if (name[0] != '/') name = name.substr(name.rfind('/') + 1);
  demand(reference(input.list, name) == got, "another answer than the reference");
  return 0;
}
