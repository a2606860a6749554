// Ends halfway.c's story; and says whether all goes on as it should. -DPREINIT: with requests before any initialiser.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef PREINIT
static char *early[1000];
static void preinit(void) {
  int i;
  for (i = 0; i < 1000; ++i) {
    early[i] = i % 2 ? malloc(1000) : calloc(10, 100);
    memset(early[i], i, 1000);
  }
  for (i = 0; i < 100; ++i) free(early[i]), early[i] = NULL;
}
__attribute__((section(".preinit_array"), used)) static void (*const start)(void) = preinit;
#endif

int main(void) {
  int (*check)(void);
  const char *(*route)(void);
  int i, j;
  *(void **)&check = dlsym(RTLD_DEFAULT, "halfway_check");
  *(void **)&route = dlsym(RTLD_DEFAULT, "memproxy_route");
  if (check != NULL && check() != 0) return 4;
#ifdef PREINIT
  for (i = 100; i < 1000; ++i) {
    for (j = 0; j < 1000; ++j)
      if (early[i][j] != (char)i) return 5;
    if (i % 3 == 0) early[i] = realloc(early[i], 5000);
    for (j = 0; j < 1000; ++j)
      if (early[i][j] != (char)i) return 6;
    free(early[i]);
  }
#endif
  for (i = 0; i < 10000; ++i) {
    char *block = malloc((size_t)i);
    block = realloc(block, (size_t)i + 100);
    memset(block, 1, (size_t)i + 100);
    free(block);
  }
  puts(route());
  return 0;
}
