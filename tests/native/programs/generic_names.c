// A library that has functions of its own by names that allocators export too (-shared), or a program that calls these and
// prints which it did not reach.
#include <stddef.h>

#define NAMES(X)                                                                                                  \
  X(free_aligned_sized) X(free_sized) X(freezero) X(freezeroall) X(malloc_good_size) X(malloc_size) X(_aligned_malloc) \
  X(reallocarr) X(reallocf) X(recallocarray) X(vfree)

#ifdef LIBRARY
size_t last_arguments;
#define X(name)                                 \
  void name(size_t a, size_t b, size_t c) {     \
    last_arguments = a;                         \
  }
NAMES(X)
#else
#include <stdio.h>
extern size_t last_arguments;
#define X(name) void name(size_t, size_t, size_t);
NAMES(X)
#undef X
int main(void) {
  static char place[64];
  int wrong = 0;
#define X(name)                                \
  last_arguments = 0;                          \
  name((size_t)place, 0, 0);                   \
  if (last_arguments != (size_t)place) {       \
    puts(#name);                               \
    wrong = 1;                                 \
  }
  NAMES(X)
  if (!wrong) puts("ok");
  return wrong;
}
#endif
