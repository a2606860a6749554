// The objects that the run-time linker has loaded, and the functions that each of them defines.
//
// Read from the linker's list and the objects' own symbol tables, not asked of dlsym: a handle's search goes on into the
// object's dependencies, dlsym may run other objects' initialisers, load lazy dependencies (Solaris) or allocate (glibc).
#ifndef MEMPROXY_OBJECT_H
#define MEMPROXY_OBJECT_H

struct link_map;
typedef const struct link_map *Object;

// libmemproxy.so itself; null if the linker does not tell.
Object object_self();

// The program, and from it in the order in which symbols are searched; null behind the last one.
Object object_first();
Object object_next(Object object);

// The loader's text, never null. On glibc "" for the program.
const char *object_path(Object object);

// The address of a function that the object itself exports, or null. Without `old`, not one that only programs linked long
// ago are given.
void *object_function(Object object, const char *name, bool old = true);

// The address of `name` in the first object that defines `beside` as well and is no allocator, wherever it was opened from; null
// if there is none. At any time: on Linux the linker's lock is held meanwhile.
void *object_function_anywhere(const char *name, const char *beside);

// True if the object asks others for this symbol.
bool object_refers_to(Object object, const char *name);

// True if the object has a heap: it defines malloc or free.
bool object_has_heap(Object object);

// True for the C library.
bool object_is_libc(Object object);

// True if a loaded object names this one as a dependency; what nobody needs was preloaded or opened.
bool object_is_needed(Object object);

// True if the directory parts of both paths are the same text.
bool object_same_directory(Object one, Object other);

#endif
