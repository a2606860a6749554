// Looking for the program's own functions behind us, in the order in which it would find them: not in allocators, and not behind
// libc if that has the name too.

#include "generic.h"

namespace {

struct Place {
  const char *name;
  void **address;
};

const Place kPlaces[] = {
#define X(name) {#name, &generic_names.name},
    MEMPROXY_GENERIC_NAMES(X)
#undef X
};
const unsigned kCount = sizeof kPlaces / sizeof *kPlaces;

}  // namespace

GenericNames generic_names;

void generic_find(Object self, Object custom) {
  bool taken[kCount] = {};
  for (Object object = object_next(self); object != nullptr; object = object_next(object)) {
    const bool libc = object_is_libc(object);
    if (object == custom || (!libc && object_has_heap(object))) continue;
    for (unsigned i = 0; i < kCount; ++i) {
      if (taken[i]) continue;
      void *address = object_function(object, kPlaces[i].name, !libc);
      if (address == nullptr) continue;
      taken[i] = true;
      if (!libc) __atomic_store_n(kPlaces[i].address, address, __ATOMIC_RELEASE);
    }
  }
}
