// Marks what the library shows to others; names.def is the list. Everything else is compiled with hidden visibility.
#ifndef MEMPROXY_EXPORT_H
#define MEMPROXY_EXPORT_H

#define EXPORT extern "C" __attribute__((visibility("default")))
#define EXPORT_DATA __attribute__((visibility("default")))

// For data declared in a header: -fvisibility covers definitions only, and without this each access would take a detour over
// the global offset table.
#define HIDDEN __attribute__((visibility("hidden")))

#define MEMPROXY_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

#endif
