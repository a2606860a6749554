// Told to by its argument, removes its own file, puts another in its place, or nothing, before the decision, and then tells its
// route and reason.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void start(int argc, char **argv) {
  if (argc < 2 || strcmp(argv[1], "keep") == 0) return;
  unlink(argv[0]);
  if (strcmp(argv[1], "replace") == 0) close(open(argv[0], O_CREAT | O_WRONLY, 0755));
}
__attribute__((section(".preinit_array"), used)) static void (*const before_all)(int, char **) = start;

int main(void) {
  const char *(*route)(void), *(*reason)(void);
  *(void **)&route = dlsym(RTLD_DEFAULT, "memproxy_route");
  *(void **)&reason = dlsym(RTLD_DEFAULT, "memproxy_reason");
  return printf("%s %s\n", route(), reason()) < 0;
}
