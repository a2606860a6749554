// Whose is a block? served.c's way of asking, and stub_allocator.c's word where that is loaded.
#define main served_main
#include "served.c"
#undef main

static const char *owner_of(void *(*allocate)(size_t)) {
  static char answer[128];
  int (*stub_owns)(const void *);
  *(void **)&stub_owns = find("stub_owns");
  if (stub_owns != NULL) {
    void *block = allocate(23456);
    const int yes = block != NULL && stub_owns(block);
    free(block);
    if (yes) return "stub";
  }
  if (glibc_report == NULL) served_start();
  ask(allocate, answer);
  return answer;
}

#define REQUIRE(condition)                                                              \
  do {                                                                                  \
    if (!(condition)) {                                                                 \
      fprintf(stderr, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
      exit(3);                                                                          \
    }                                                                                   \
  } while (0)
