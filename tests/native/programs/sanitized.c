// Built with a sanitizer: allocates in threads, prints its route and the reason, then does wrong what the argument says.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *work(void *unused) {
  for (int size = 1; size < 300; ++size) {
    char *block = malloc(size);
    memset(block, 1, size);
    block = realloc(block, 2 * size);
    free(block);
  }
  return unused;
}

static const char *word(const char *name) {
  const char *(*function)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, name);
  return function == NULL ? "-" : function();
}

static int shared;
static void *count(void *unused) {
  for (int i = 0; i < 1000; ++i) ++shared;
  return unused;
}

static void in_threads(void *(*function)(void *)) {
  pthread_t threads[4];
  for (int i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, function, NULL);
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
}

static char *volatile block;

int main(int argc, char **argv) {
  const char *wrong = argc > 1 ? argv[1] : "";
  void *aligned;
  in_threads(work);
  free(strdup("text"));
  if (posix_memalign(&aligned, 64, 100) != 0) return 3;
  free(aligned);
  printf("%s %s\n", word("memproxy_route"), word("memproxy_reason"));
  fflush(stdout);
  block = malloc(10);
  if (strcmp(wrong, "overflow") == 0) block[strlen("ten bytes.")] = 1;
  if (strcmp(wrong, "race") == 0) in_threads(count);
  if (strcmp(wrong, "uninitialised") == 0 && block[3] == 1) puts("one");
  if (strcmp(wrong, "undefined") == 0) printf("%d\n", 0x7fffffff + argc);
  if (strcmp(wrong, "leak") != 0) free(block);
  block = NULL;
  return 0;
}
