// What the parts of the laboratory's libc.so.1 share: names as Solaris exports them, the journal, and options.
#ifndef LAB_H
#define LAB_H

#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>

// A function of ours under its name of Solaris. Calls of it from here go by that public name, over the linker.
#define PUBLIC(name) __asm__(#name) __attribute__((visibility("default")))
// The same where libc's own uses cannot be interposed.
#define PROTECTED(name) __asm__(#name) __attribute__((visibility("protected")))
#define LOCAL __attribute__((visibility("hidden")))

// The value of LAB_name in the environment, or null.
LOCAL const char *lab_option(const char *name);

// One line in the file that LAB_JOURNAL names: what, and the object that `caller`, a return address, lies in.
LOCAL void lab_note(const void *caller, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define NOTE(...) lab_note(__builtin_return_address(0), __VA_ARGS__)

// Ends the process by SIGABRT, with a message.
LOCAL void lab_die(const char *message) __attribute__((noreturn));

// The base name of the object that holds `address`.
LOCAL const char *lab_object_name(const void *address);

// The executable's path, links resolved.
LOCAL const char *lab_program(void);

// A spin lock: held for a few instructions, and over fork.
LOCAL void lab_lock(int *lock);
LOCAL void lab_unlock(int *lock);
LOCAL extern int lab_heap_lock, lab_linker_lock;

LOCAL int lab_equal(const char *a, const char *b);
LOCAL const char *lab_base(const char *path);

// memory and strings, by their public names
void *lab_memset(void *, int, size_t) PUBLIC(memset);
void *lab_memcpy(void *, const void *, size_t) PUBLIC(memcpy);

#endif
