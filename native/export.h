// Marks what the library shows to others; names.def is the list. Everything else is compiled with hidden visibility.
#ifndef MEMPROXY_EXPORT_H
#define MEMPROXY_EXPORT_H

#define EXPORT extern "C" __attribute__((visibility("default")))
#define EXPORT_DATA __attribute__((visibility("default")))

// For data declared in a header: -fvisibility covers definitions only, and without this each access would take a detour over
// the global offset table.
#define HIDDEN __attribute__((visibility("hidden")))

// In front of a return: a jump instead of a call. clang makes none of its own accord to what stands in a table, in 32-bit code.
#ifdef __has_cpp_attribute
#if __has_cpp_attribute(clang::musttail)
#define MEMPROXY_JUMP [[clang::musttail]]
#endif
#endif
#ifndef MEMPROXY_JUMP
#define MEMPROXY_JUMP
#endif

#define MEMPROXY_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

#endif
