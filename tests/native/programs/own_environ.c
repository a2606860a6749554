// Has a variable of its own that is called environ.
#include <dlfcn.h>
#include <stdio.h>

char **environ;

int main(void) {
  const char *(*reason)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, "memproxy_reason");
  puts(reason == NULL ? "none" : reason());
  return 0;
}
