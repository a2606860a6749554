// A library that has functions of its own by names that allocators export too (-DLIBRARY -shared), or a program that calls these
// and prints which it did not reach, or not with all that it passed.
#include <stddef.h>

#define NAMES(X)                                                                                                          \
  X(cfree) X(memalign) X(pvalloc) X(valloc) X(free_aligned_sized) X(free_sized) X(freezero) X(freezeroall)                \
  X(malloc_good_size) X(malloc_size) X(_aligned_malloc) X(reallocarr) X(reallocf) X(recallocarray) X(vfree)               \
  X(mallopt) X(malloc_stats) X(malloc_trim) X(malloc_info)

typedef size_t Call(size_t, size_t, size_t, size_t, size_t, size_t);

#ifdef LIBRARY
size_t last_arguments;
#define X(name)                                                                       \
  size_t name(size_t a, size_t b, size_t c, size_t d, size_t e, size_t f) {           \
    last_arguments = a == 1 && b == 2 && c == 3 && d == 4 && e == 5 && f == 6;        \
    return 77;                                                                        \
  }
NAMES(X)
#else
#include <stdio.h>
extern size_t last_arguments;
#define X(name) Call name;
NAMES(X)
#undef X
int main(void) {
  int wrong = 0;
#define X(name)                                                       \
  last_arguments = 0;                                                 \
  if (name(1, 2, 3, 4, 5, 6) != 77 || !last_arguments) {              \
    puts(#name);                                                      \
    wrong = 1;                                                        \
  }
  NAMES(X)
  if (!wrong) puts("ok");
  return wrong;
}
#endif
