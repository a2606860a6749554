// Looking for the program's own functions behind us: in what is neither libc nor an allocator.

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

}  // namespace

GenericNames generic_names;

void generic_find(Object self, Object custom) {
  for (Object object = object_next(self); object != nullptr; object = object_next(object)) {
    if (object == custom || object_is_libc(object) || object_function(object, "malloc") != nullptr) continue;
    for (const Place &place : kPlaces)
      if (*place.address == nullptr) *place.address = object_function(object, place.name);
  }
}
