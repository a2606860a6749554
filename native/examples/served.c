/* Says, from inside a process, which heap serves its malloc: asked of the heaps themselves, not of libmemproxy.
 *
 * Prints one JSON object. A block is allocated, and each heap that can be found in the process is asked whether it is the
 * one that gave it: the C library by the growth of what its own mallinfo2 counts, jemalloc by its "thread.allocated",
 * mimalloc by mi_check_owned, tcmalloc by MallocExtension_GetOwnership. What libmemproxy says of its route and its
 * allocator stands beside it.
 *
 *   cc -m32|-m64 served.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 96 * 1024 }; /* below the size from which the C library maps a block of its own, which it counts apart */

static struct mallinfo2 (*libc_mallinfo2)(void);
static int (*jemalloc_mallctl)(const char *, void *, size_t *, void *, size_t);

static size_t libc_in_use(void) { return libc_mallinfo2 ? libc_mallinfo2().uordblks : 0; }

static uint64_t jemalloc_allocated(void) {
  uint64_t bytes = 0;
  size_t size = sizeof bytes;
  if (jemalloc_mallctl && jemalloc_mallctl("thread.allocated", &bytes, &size, 0, 0) != 0) bytes = 0;
  return bytes;
}

static void text(const char *name, const char *value) {
  printf(", \"%s\": ", name);
  if (!value) {
    printf("null");
    return;
  }
  putchar('"');
  for (; *value; value++) {
    if ((unsigned char)*value < 0x20 || *value == '"' || *value == '\\')
      printf("\\u%04x", (unsigned char)*value);
    else
      putchar(*value);
  }
  putchar('"');
}

static const char *told(const char *function) {
  const char *(*ask)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, function);
  return ask ? ask() : 0;
}

int main(void) {
  /* RTLD_DEFAULT would find libmemproxy's mallinfo2; the C library's own is asked for by its handle. */
  void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  _Bool (*mimalloc_owns)(const void *) = (_Bool(*)(const void *))dlsym(RTLD_DEFAULT, "mi_check_owned");
  int (*tcmalloc_owns)(const void *) = (int (*)(const void *))dlsym(RTLD_DEFAULT, "MallocExtension_GetOwnership");
  libc_mallinfo2 = libc ? (struct mallinfo2(*)(void))dlsym(libc, "mallinfo2") : 0;
  jemalloc_mallctl = (int (*)(const char *, void *, size_t *, void *, size_t))dlsym(RTLD_DEFAULT, "mallctl");

  size_t libc_before = libc_in_use();
  uint64_t jemalloc_before = jemalloc_allocated();
  char *volatile block = malloc(BLOCK);
  if (!block) return 1;
  memset(block, 1, BLOCK);
  int by_libc = libc_in_use() - libc_before >= BLOCK;
  int by_jemalloc = jemalloc_allocated() - jemalloc_before >= BLOCK;
  int by_mimalloc = mimalloc_owns && mimalloc_owns(block);
  int by_tcmalloc = tcmalloc_owns && tcmalloc_owns(block) == 1; /* kOwned */

  char program[4096], allocator[4096];
  ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
  program[length < 0 ? 0 : length] = 0;
  const char *path = told("memproxy_allocator");
  printf("{\"bits\": %d, \"libc\": %s, \"jemalloc\": %s, \"mimalloc\": %s, \"tcmalloc\": %s", (int)(8 * sizeof(void *)),
         by_libc ? "true" : "false", by_jemalloc ? "true" : "false", by_mimalloc ? "true" : "false",
         by_tcmalloc ? "true" : "false");
  text("program", program);
  text("route", told("memproxy_route"));
  text("reason", told("memproxy_reason"));
  text("allocator", path && realpath(path, allocator) ? allocator : path);
  printf("}\n");
  free(block);
  return 0;
}
