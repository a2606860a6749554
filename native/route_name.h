// The routes that a process's memory can take, and the words for them in the exclusion list and in MEMPROXY_ROUTE.
#ifndef MEMPROXY_ROUTE_NAME_H
#define MEMPROXY_ROUTE_NAME_H

#include <stddef.h>

enum class Route : unsigned char { kSystem, kCustom };

// Indexed by Route. `memproxy_sol/exclusions.py` has the same words in ROUTES; tests hold the two together.
static const char kRouteNames[][8] = {"system", "custom"};

inline const char *route_name(Route route) { return kRouteNames[static_cast<size_t>(route)]; }

// True, with *route set, if the `length` bytes at `word` are exactly the name of a route.
inline bool route_from_name(const char *word, size_t length, Route *route) {
  for (size_t i = 0; i < sizeof kRouteNames / sizeof *kRouteNames; ++i) {
    size_t n = 0;
    while (n < length && kRouteNames[i][n] != '\0' && word[n] == kRouteNames[i][n]) ++n;
    if (n == length && kRouteNames[i][n] == '\0') {
      *route = static_cast<Route>(i);
      return true;
    }
  }
  return false;
}

#endif
