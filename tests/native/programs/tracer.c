// Another interposer, ahead of libmemproxy: counts the calls of malloc and its kin and passes them on to whoever is next.
// It asks for all its functions at once: dlsym itself may call free.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

int tracer_calls;

static void *(*next_malloc)(size_t);
static void (*next_free)(void *);
static void *(*next_realloc)(void *, size_t);
static void *(*next_memalign)(size_t, size_t);
static int (*next_posix_memalign)(void **, size_t, size_t);

static void count(void) {
  ++tracer_calls;
  if (next_malloc != NULL) return;
  *(void **)&next_free = dlsym(RTLD_NEXT, "free");
  *(void **)&next_realloc = dlsym(RTLD_NEXT, "realloc");
  *(void **)&next_memalign = dlsym(RTLD_NEXT, "memalign");
  *(void **)&next_posix_memalign = dlsym(RTLD_NEXT, "posix_memalign");
  *(void **)&next_malloc = dlsym(RTLD_NEXT, "malloc");
}

void *malloc(size_t size) {
  count();
  return next_malloc(size);
}
void free(void *block) {
  count();
  next_free(block);
}
void *realloc(void *block, size_t size) {
  count();
  return next_realloc(block, size);
}
#ifdef WITH_MEMALIGN
void *memalign(size_t alignment, size_t size) {
  count();
  return next_memalign(alignment, size);
}
int posix_memalign(void **block, size_t alignment, size_t size) {
  count();
  return next_posix_memalign(block, alignment, size);
}
#endif
