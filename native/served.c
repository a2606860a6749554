/* Says which library serves this process's memory, and what libmemproxy has to say about it: one line of JSON.
 *
 * The answer does not rest on libmemproxy's word. For each way to get memory a block is requested and every allocator that is
 * loaded is asked, by an interface of its own, whether the block is one of its own: mimalloc, tcmalloc and oneTBB's know
 * their blocks, jemalloc, Scudo and glibc count what they have given out. "served_by" is the one that claims malloc's block, "each"
 * has the same for the other functions. If none does, or two do, the answer is "unknown" or both names with a plus sign.
 *
 * By hand: cc -m32 -o served served.c (or -m64, on older systems with -ldl); LD_PRELOAD=... ./served */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct glibc_info { /* struct mallinfo2 */
  size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};

static struct glibc_info (*glibc_report)(void);
static int (*jemalloc_control)(const char *, void *, size_t *, void *, size_t);
static _Bool (*mimalloc_knows)(const void *);
static _Bool (*mimalloc_owns)(const void *); /* of the 32-bit build the other one knows nothing */
static int (*tcmalloc_ownership)(const void *);
static size_t (*tbb_size)(void *, size_t (*)(void *)); /* of a block not its own what the second parameter says */
static struct glibc_info (*scudo_report)(void);        /* the same structure, filled in by Scudo */

static size_t glibc_given(void) {
  struct glibc_info info;
  if (glibc_report == NULL) return 0;
  info = glibc_report();
  return info.uordblks + info.hblkhd;
}

static uint64_t jemalloc_given(void) {
  uint64_t given = 0;
  size_t size = sizeof given;
  if (jemalloc_control == NULL || jemalloc_control("thread.allocated", &given, &size, NULL, 0) != 0) return 0;
  return given;
}

static size_t scudo_given(void) { return scudo_report == NULL ? 0 : scudo_report().uordblks; }

static size_t not_tbb(void *block) {
  (void)block;
  return SIZE_MAX;
}

static void *by_malloc(size_t size) { return malloc(size); }
static void *by_calloc(size_t size) { return calloc(size, 1); }
static void *by_realloc(size_t size) { return realloc(malloc(1), size); }
static void *by_posix_memalign(size_t size) {
  void *block = NULL;
  return posix_memalign(&block, 64, size) == 0 ? block : NULL;
}
static void *by_strdup(size_t size) {
  char *text = malloc(size);
  char *copy;
  if (text == NULL) return NULL;
  memset(text, 'x', size - 1);
  text[size - 1] = '\0';
  copy = strdup(text);
  free(text);
  return copy;
}

/* Functions that the C library of the system need not have, by their public name. */
static void *find(const char *name) { return dlsym(RTLD_DEFAULT, name); }

static void *by_aligned(const char *name, size_t size) {
  void *(*function)(size_t, size_t);
  *(void **)&function = find(name);
  return function == NULL ? NULL : function(64, size);
}
static void *by_one(const char *name, size_t size) {
  void *(*function)(size_t);
  *(void **)&function = find(name);
  return function == NULL ? NULL : function(size);
}
static void *by_memalign(size_t size) { return by_aligned("memalign", size); }
static void *by_aligned_alloc(size_t size) { return by_aligned("aligned_alloc", size); }
static void *by_valloc(size_t size) { return by_one("valloc", size); }
static void *by_pvalloc(size_t size) { return by_one("pvalloc", size); }
static void *by_new(size_t size) { return by_one(sizeof size == 8 ? "_Znwm" : "_Znwj", size); }
static void *by_reallocarray(size_t size) {
  void *(*function)(void *, size_t, size_t);
  *(void **)&function = find("reallocarray");
  return function == NULL ? NULL : function(NULL, size, 1);
}
static void *by_reallocf(size_t size) {
  void *(*function)(void *, size_t);
  *(void **)&function = find("reallocf");
  return function == NULL ? NULL : function(NULL, size);
}

static const struct {
  const char *name;
  void *(*allocate)(size_t);
} ways[] = {{"malloc", by_malloc},
            {"calloc", by_calloc},
            {"realloc", by_realloc},
            {"posix_memalign", by_posix_memalign},
            {"memalign", by_memalign},
            {"aligned_alloc", by_aligned_alloc},
            {"valloc", by_valloc},
            {"pvalloc", by_pvalloc},
            {"reallocarray", by_reallocarray},
            {"reallocf", by_reallocf},
            {"strdup", by_strdup},
            {"operator new", by_new}};

static void claim(char *answer, const char *name) {
  if (*answer != '\0') strcat(answer, "+");
  strcat(answer, name);
}

/* Who gave the block; "" if the function does not exist. The size is such that no cache has a block of it ready; most of it must
 * have been counted, since realloc may take a small block, counted before, that can grow where it is. */
static void ask(void *(*allocate)(size_t), char *answer) {
  enum { size = 23456, most = size - 1000 };
  const size_t glibc_before = glibc_given();
  const uint64_t jemalloc_before = jemalloc_given();
  const size_t scudo_before = scudo_given();
  void *block = allocate(size);
  const size_t scudo_after = scudo_given();
  const uint64_t jemalloc_after = jemalloc_given();
  const size_t glibc_after = glibc_given();
  *answer = '\0';
  if (block == NULL) return;
  memset(block, 1, size);
  if (glibc_after >= glibc_before + most) claim(answer, "glibc");
  if (jemalloc_after >= jemalloc_before + most) claim(answer, "jemalloc");
  if ((mimalloc_knows != NULL && mimalloc_knows(block)) || (mimalloc_owns != NULL && mimalloc_owns(block)))
    claim(answer, "mimalloc");
  if (scudo_after >= scudo_before + most) claim(answer, "scudo");
  if (tbb_size != NULL && tbb_size(block, not_tbb) != SIZE_MAX) claim(answer, "tbb");
  if (tcmalloc_ownership != NULL && tcmalloc_ownership(block) == 1) claim(answer, "tcmalloc");
  if (*answer == '\0') strcpy(answer, "unknown");
  free(block);
}

static void print_text(const char *text) {
  if (text == NULL) {
    fputs("null", stdout);
    return;
  }
  putchar('"');
  for (; *text != '\0'; ++text) {
    const unsigned char c = (unsigned char)*text;
    if (c == '"' || c == '\\')
      printf("\\%c", c);
    else if (c < 0x20 || c == 0x7f)
      printf("\\u%04x", c);
    else
      putchar(c);
  }
  putchar('"');
}

static const char *word_of(const char *function_name) {
  const char *(*function)(void);
  *(void **)&function = find(function_name);
  return function == NULL ? NULL : function();
}

/* A function of the very library that defines another, whoever stands in front of it. */
static void *beside(const char *known, const char *name) {
  Dl_info information, other;
  void *address = find(known);
  void *handle;
  if (address == NULL || dladdr(address, &information) == 0) return NULL;
  handle = dlopen(information.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  address = handle == NULL ? NULL : dlsym(handle, name);
  /* The search goes on into its dependencies. */
  if (address == NULL || dladdr(address, &other) == 0 || other.dli_fbase != information.dli_fbase) return NULL;
  return address;
}

static void served_start(void) {
  void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  if (libc != NULL) *(void **)&glibc_report = dlsym(libc, "mallinfo2");
  *(void **)&jemalloc_control = find("mallctl");
  *(void **)&mimalloc_knows = find("mi_is_in_heap_region");
  *(void **)&mimalloc_owns = find("mi_check_owned");
  *(void **)&tcmalloc_ownership = find("MallocExtension_GetOwnership");
  *(void **)&tbb_size = find("__TBB_malloc_safer_msize");
  *(void **)&scudo_report = beside("__scudo_print_stats", "mallinfo2");
}

int main(int argc, char **argv) {
  char answer[128];
  const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
  const char *separator = "";
  size_t i;

  served_start();
  fputs("{\"program\": ", stdout);
  print_text(slash != NULL ? slash + 1 : argc > 0 ? argv[0] : NULL);
  printf(", \"bits\": %d, \"route\": ", (int)(sizeof(void *) * 8));
  print_text(word_of("memproxy_route"));
  fputs(", \"reason\": ", stdout);
  print_text(word_of("memproxy_reason"));
  fputs(", \"allocator\": ", stdout);
  print_text(word_of("memproxy_allocator"));
  ask(by_malloc, answer);
  fputs(", \"served_by\": ", stdout);
  print_text(answer);
  fputs(", \"each\": {", stdout);
  for (i = 0; i < sizeof ways / sizeof *ways; ++i) {
    ask(ways[i].allocate, answer);
    if (*answer == '\0') continue;
    fputs(separator, stdout);
    separator = ", ";
    print_text(ways[i].name);
    fputs(": ", stdout);
    print_text(answer);
  }
  puts("}}");
  return 0;
}
