// What main finds: errno, the descriptor that open gives next, the pending dlerror, the signal mask.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
  const int error = errno;
  const char *message = dlerror();
  const int next = open("/dev/null", O_RDONLY);
  sigset_t mask;
  int signal, blocked = 0;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  for (signal = 1; signal < 32; ++signal) blocked += sigismember(&mask, signal) == 1;
  printf("errno %d, descriptor %d, dlerror %s, blocked %d\n", error, next, message == NULL ? "none" : message, blocked);
  return 0;
}
