// Marks what the library shows to others; names.def is the list. Everything else is compiled with hidden visibility.
#ifndef MEMPROXY_EXPORT_H
#define MEMPROXY_EXPORT_H

#define EXPORT extern "C" __attribute__((visibility("default")))
#define EXPORT_DATA __attribute__((visibility("default")))

#define MEMPROXY_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

#endif
