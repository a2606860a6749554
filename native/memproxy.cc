// The public record, the functions that read it, and the constructor.

#include "memproxy.h"

#include <stddef.h>

#include "export.h"
#include "record.h"
#include "route.h"

struct memproxy_record own_record = {{'m', 'e', 'm', 'p', 'r', 'o', 'x', 'y'},
                                     MEMPROXY_RECORD_VERSION,
                                     sizeof(struct memproxy_record),
                                     MEMPROXY_STATE_START,
                                     MEMPROXY_ROUTE_SYSTEM,
                                     MEMPROXY_REASON_UNDECIDED,
                                     0,
                                     {0}};

// In this order: clang goes by the name of what an alias stands for.
EXPORT_DATA extern struct memproxy_record memproxy_record __attribute__((alias("own_record")));

static_assert(sizeof(struct memproxy_record) == 8 + 6 * 4 + MEMPROXY_RECORD_PATH, "one layout for both ABIs");
static_assert(static_cast<int>(Route::kSystem) == MEMPROXY_ROUTE_SYSTEM, "the record's number of the route");
static_assert(static_cast<int>(Route::kCustom) == MEMPROXY_ROUTE_CUSTOM, "the record's number of the route");

static const char *allocator_path;

static const char kReasons[][16] = {"undecided", "default", "list", "environment", "no-allocator", "not-owner",
                                      "sanitizer"};
static_assert(sizeof kReasons / sizeof *kReasons == MEMPROXY_REASON_SANITIZER + 1, "a word for each reason");

void record_state(memproxy_state state) {
  __atomic_store_n(&own_record.state, static_cast<uint32_t>(state), __ATOMIC_RELEASE);
}

void record_fill(Route route, memproxy_reason_number reason, unsigned line, const char *allocator) {
  own_record.route = static_cast<uint32_t>(route);
  own_record.reason = static_cast<uint32_t>(reason);
  own_record.line = line;
  allocator_path = allocator;
  if (allocator == nullptr) return;
  for (size_t i = 0; i + 1 < sizeof own_record.allocator && allocator[i] != '\0'; ++i)
    own_record.allocator[i] = allocator[i];
}

const char *record_reason() { return kReasons[own_record.reason]; }
const char *record_allocator() { return allocator_path; }

EXPORT const char *memproxy_route(void) {
  route_ready(true);
  return route_name(route_taken());
}

EXPORT const char *memproxy_allocator(void) {
  route_ready(true);
  return allocator_path;
}

EXPORT const char *memproxy_reason(void) {
  route_ready(true);
  return record_reason();
}

// Early enough for a program that has a signal handler or a second thread call malloc first; not needed for being right.
__attribute__((constructor)) static void memproxy_start() { route_ready(true); }
