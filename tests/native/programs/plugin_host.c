// Opens a plugin, works with it and closes it: host ROUNDS WAY PLUGIN, where WAY is a word of letters.
// l: RTLD_LOCAL; g: RTLD_GLOBAL; d: RTLD_DEEPBIND; n: in a new namespace (dlmopen). x: blocks change sides as well.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *result) {
  if (result == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    exit(2);
  }
  return result;
}

int main(int argc, char **argv) {
  const char *way = argv[2];
  const int flags = RTLD_NOW | (strchr(way, 'g') ? RTLD_GLOBAL : RTLD_LOCAL) | (strchr(way, 'd') ? RTLD_DEEPBIND : 0);
  int round;
  for (round = 0; round < atoi(argv[1]); ++round) {
    void *plugin = must(strchr(way, 'n') ? dlmopen(LM_ID_NEWLM, argv[3], flags & ~RTLD_GLOBAL) : dlopen(argv[3], flags));
    int (*work)(void);
    void *(*make)(size_t);
    void (*take)(void *);
    char *block;
    *(void **)&work = must(dlsym(plugin, "plugin_work"));
    *(void **)&make = must(dlsym(plugin, "plugin_make"));
    *(void **)&take = must(dlsym(plugin, "plugin_take"));
    if (work() != 0) return 3;
    block = make(300);
    if (block[299] != 'p') return 4;
    if (strchr(way, 'x')) {
      block = realloc(block, 3000);
      if (block[299] != 'p') return 5;
      free(block);
      take(memset(malloc(500), 'h', 500));
    } else {
      take(block);
    }
    if (dlclose(plugin) != 0) return 6;
  }
  return puts("ok") < 0;
}
