// A preload ahead of libmemproxy that asks for memory in the middle of libmemproxy's decision: it defines a function which
// the decision calls. -DTHREADS=n: so do n threads, which go on while the decision becomes final.
// halfway_check() then uses every block as its owner would: contents, size, realloc, free.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef BLOCKS
#define BLOCKS 300
#endif
#ifndef THREADS
#define THREADS 0
#endif

struct set {
  char *blocks[BLOCKS];
  size_t sizes[BLOCKS];
};
static struct set sets[THREADS + 1];
static int problems, asked, go_on = 1;
static void complain(const char *what, size_t number) {
  fprintf(stderr, "halfway: %s (%zu)\n", what, number);
  __atomic_add_fetch(&problems, 1, __ATOMIC_RELAXED);
}

void *memalign(size_t, size_t);
size_t malloc_usable_size(void *);

static char *get(int way, size_t size) {
  void *block = NULL;
  switch (way % 6) {
    case 0: return malloc(size);
    case 1: return calloc(size, 1);
    case 2: return realloc(NULL, size);
    case 3: return memalign(256, size);
    case 4: return realloc(malloc(size / 2), size);
    default: return posix_memalign(&block, 64, size) == 0 ? block : NULL;
  }
}

static void fill(struct set *set) {
  size_t i, j;
  for (i = 0; i < BLOCKS; ++i) {
    const size_t size = i % 50 == 49 ? 100000 : (i * 37) % 700 + 1;
    char *block = get((int)i, size);
    if (block == NULL) {
      complain("no memory", i);
      continue;
    }
    if (size >= 16 && ((uintptr_t)block & 15) != 0) complain("not aligned to 16", i);
    if (i % 6 == 3 && ((uintptr_t)block & 255) != 0) complain("memalign not aligned", i);
    if (i % 6 == 1)
      for (j = 0; j < size; ++j)
        if (block[j] != 0) complain("calloc not zeroed", i);
    memset(block, (int)i, size);
    set->blocks[i] = block;
    set->sizes[i] = size;
    free(malloc(33));
  }
  if (calloc(SIZE_MAX / 16 + 2, 16) != NULL) complain("calloc overflow", 0);
  if ((set->blocks[0] = realloc(set->blocks[0], 0)) != NULL) complain("realloc(p, 0)", 0);
  free(NULL);
}

static void *thread(void *set) {
  int rounds = 0;
  fill(set);
  while (__atomic_load_n(&go_on, __ATOMIC_ACQUIRE) && ++rounds < 100000) {
    char *block = malloc(64);
    memset(block, 1, 64);
    block = realloc(block, 128);
    free(block);
  }
  return NULL;
}

#if THREADS
static pthread_t threads[THREADS];
#endif

int dladdr1(const void *address, Dl_info *information, void **extra, int flags) {
  static int (*real)(const void *, Dl_info *, void **, int);
  if (!asked) {
    asked = 1;
    errno = 0;
#if THREADS
    {
      int i;
      for (i = 0; i < THREADS; ++i) pthread_create(&threads[i], NULL, thread, &sets[i + 1]);
    }
#endif
    fill(&sets[0]);
  }
  *(void **)&real = dlsym(RTLD_NEXT, "dladdr1");
  return real(address, information, extra, flags);
}

int halfway_check(void) {
  size_t s, i, j;
  if (!asked) complain("was never asked", 0);
  __atomic_store_n(&go_on, 0, __ATOMIC_RELEASE);
#if THREADS
  for (i = 0; i < THREADS; ++i) pthread_join(threads[i], NULL);
#endif
  for (s = 0; s <= THREADS; ++s)
    for (i = 1; i < BLOCKS; ++i) {
      char *block = sets[s].blocks[i];
      const size_t size = sets[s].sizes[i];
      const size_t usable = malloc_usable_size(block);
      if (usable != 0 && usable < size) complain("usable size", i);
      for (j = 0; j < size; ++j)
        if (block[j] != (char)i) {
          complain("contents", i);
          break;
        }
      if (i % 3 == 0) {
        block = realloc(block, size * 2 + 10);
        for (j = 0; j < size; ++j)
          if (block[j] != (char)i) {
            complain("contents after realloc", i);
            break;
          }
        memset(block, 1, size * 2 + 10);
      }
      if (i % 7 == 0) {
        errno = 77;
        free(block);
        if (errno != 77) complain("free changed errno", i);
      } else {
        free(block);
      }
    }
  return problems;
}
