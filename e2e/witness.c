/* Loaded into a program by LD_PRELOAD: how much memory libc's heap and the custom allocator have got between the start of
 * its main() and its end, each by its own account; one line into the file that WITNESS names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct mallinfo2 (*libc_report)(void);
static int (*jemalloc_control)(const char *, void *, size_t *, void *, size_t);
static void (*mimalloc_report)(size_t *, size_t *, size_t *, size_t *, size_t *, size_t *, size_t *, size_t *);
/* The beginning of mi_heap_area_t. */
struct area {
  void *blocks;
  size_t reserved, committed, used, block_size;
};
typedef bool visitor(const void *heap, const struct area *area, void *block, size_t size, void *sum);
static bool (*mimalloc_visit)(void *heap, bool each_block, visitor *, void *sum);
static void *(*mimalloc_heap)(void);
static int (*tcmalloc_property)(const char *, size_t *);
static unsigned long long libc_start, custom_start;
static pid_t first;

static unsigned long long libc_bytes(void) {
  if (libc_report == NULL) return 0;
  const struct mallinfo2 report = libc_report();
  return (unsigned long long)report.arena + report.hblkhd;
}

static bool add(const void *heap, const struct area *area, void *block, size_t size, void *sum) {
  (void)heap, (void)block, (void)size;
  *(unsigned long long *)sum += area->used * area->block_size;
  return true;
}

/* What mimalloc commits it commits by the mebibyte, so what this thread has of it now counts, too. */
static unsigned long long mimalloc_blocks(void) {
  unsigned long long sum = 0;
  if (mimalloc_visit != NULL && mimalloc_heap != NULL) mimalloc_visit(mimalloc_heap(), false, add, &sum);
  return sum;
}

static unsigned long long custom_bytes(void) {
  size_t none[6], committed = 0, value = 0, size = sizeof value;
  uint64_t allocated = 0, epoch = 1;
  size_t width = sizeof allocated;
  if (jemalloc_control != NULL) {
    /* What this thread has ever asked for, and what all have now. */
    jemalloc_control("epoch", NULL, NULL, &epoch, sizeof epoch);
    jemalloc_control("thread.allocated", &allocated, &width, NULL, 0);
    jemalloc_control("stats.allocated", &value, &size, NULL, 0);
    return allocated + value;
  }
  if (mimalloc_report != NULL) {
    mimalloc_report(&none[0], &none[1], &none[2], &none[3], &none[4], &none[5], &committed, &value);
    return committed;
  }
  if (tcmalloc_property != NULL && tcmalloc_property("generic.heap_size", &value)) return value;
  return 0;
}

__attribute__((constructor)) static void start(void) {
  void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  *(void **)&libc_report = dlsym(libc, "mallinfo2");
  *(void **)&jemalloc_control = dlsym(RTLD_DEFAULT, "mallctl");
  *(void **)&mimalloc_report = dlsym(RTLD_DEFAULT, "mi_process_info");
  *(void **)&mimalloc_visit = dlsym(RTLD_DEFAULT, "mi_heap_visit_blocks");
  *(void **)&mimalloc_heap = dlsym(RTLD_DEFAULT, "mi_heap_get_default");
  *(void **)&tcmalloc_property = dlsym(RTLD_DEFAULT, "MallocExtension_GetNumericProperty");
  first = getpid();
  custom_start = custom_bytes();
  libc_start = libc_bytes();
}

__attribute__((destructor)) static void end(void) {
  const unsigned long long libc = libc_bytes(), custom = custom_bytes() - custom_start + mimalloc_blocks();
  const char *path = getenv("WITNESS");
  char line[200];
  int length, file;
  if (path == NULL || getpid() != first) return;
  length = snprintf(line, sizeof line, "%s %llu %llu\n", program_invocation_short_name, libc - libc_start, custom);
  file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
  if (file < 0 || write(file, line, (size_t)length) != length) abort();
  close(file);
}
