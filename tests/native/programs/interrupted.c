// Signals that come all the time while the program allocates; the handlers ask for none, as they must not.
// Its signal mask stays what it was. -DEARLY: the first request for memory ever is a signal handler's, on a
// stack of its own, before any initialiser of a preload.
#define _GNU_SOURCE
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

static volatile sig_atomic_t signals;
static char *volatile block;

static void look(int number) {
  signals += number == SIGALRM;
}

static int masked(void) {
  sigset_t set;
  int number, count = 0;
  sigprocmask(SIG_BLOCK, NULL, &set);
  for (number = 1; number < NSIG; ++number) count += sigismember(&set, number) == 1;
  return count;
}

#ifdef EARLY
static char stack[16 * 1024] __attribute__((aligned(64)));
static void ask(int number) {
  block = memset(malloc(500), number, 500);
  free(malloc(10));
}

int early_object_check(void) {
  char *grown = realloc(block, 5000);
  if (grown == NULL || grown[499] != SIGUSR1 || malloc_usable_size(grown) < 5000) return 1;
  free(grown);
  return masked();
}

__attribute__((constructor)) static void start(void) {
  stack_t place = {.ss_sp = stack, .ss_size = sizeof stack};
  struct sigaction action = {.sa_handler = ask, .sa_flags = SA_ONSTACK};
  sigaltstack(&place, NULL);
  sigaction(SIGUSR1, &action, NULL);
  raise(SIGUSR1);
}
#else
int main(void) {
  struct itimerval often = {{0, 50}, {0, 50}};
  struct itimerval never = {{0, 0}, {0, 0}};
  struct sigaction action = {.sa_handler = look, .sa_flags = SA_RESTART};
  unsigned turn;
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &often, NULL);
  for (turn = 0; turn < 200000 || signals < 20; ++turn) {
    char *now = malloc(turn % 3000 + 1);
    if (now == NULL) return 2;
    memset(now, (int)turn, turn % 3000 + 1);
    now = realloc(now, turn % 5000 + 1);
    if (now == NULL || now[0] != (char)turn) return 3;
    free(now);
    if (turn % 1000 == 0) {
      block = calloc(7, 100);
      free(block);
    }
  }
  setitimer(ITIMER_REAL, &never, NULL);
  return masked();
}
#endif
