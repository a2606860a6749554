// Route and reason, in two words; with an argument also the record, as a tool that knows only memproxy.h would read it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "memproxy.h"

static const char *word(const char *name) {
  const char *(*function)(void);
  *(void **)&function = dlsym(RTLD_DEFAULT, name);
  return function == NULL ? "none" : function();
}

int main(int argc, char **argv) {
  const struct memproxy_record *record = dlsym(RTLD_DEFAULT, "memproxy_record");
  printf("%s %s\n", word("memproxy_route"), word("memproxy_reason"));
  if (argc > 1)
    printf("%.8s %u %d %u %u %u %u %s\n", record->magic, record->version, record->size == sizeof *record, record->state,
           record->route, record->reason, record->line, record->allocator);
  return 0;
}
