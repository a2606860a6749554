// Children of a process whose other threads allocate all the time: children THREADS ROUNDS. They are made in every way there
// is, with fork handlers that allocate, free what their parent allocated, and end by exit as well as by _exit.
//
// It begins when all threads have allocated for a while; why, forks.c says.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char *self;
static int go_on = 1, ready, handled;
static char *parents[100];
static char stack[64 * 1024] __attribute__((aligned(64)));

static void *thread(void *number) {
  char *blocks[16] = {0};
  unsigned turn;
  for (turn = 0; __atomic_load_n(&go_on, __ATOMIC_RELAXED); ++turn) {
    char **block = &blocks[turn % 16];
    *block = *block == NULL ? malloc((turn * 31) % 2000 + 1) : realloc(*block, (turn * 31) % 2000 + 1);
    if (*block == NULL) _exit(9);
    memset(*block, (int)turn, (turn * 31) % 2000 + 1);
    if (turn / 16 % 2 == 0) free(*block), *block = NULL;
    if (turn == 500) __atomic_add_fetch(&ready, 1, __ATOMIC_RELAXED);
    if (turn > 500 && (long)number >= 4) usleep(10000);  // of very many threads only some are busy
  }
  for (turn = 0; turn < 16; ++turn) free(blocks[turn]);
  return NULL;
}

static void allocate_some(void) {
  int i;
  for (i = 0; i < 50; ++i) {
    char *block = malloc((size_t)i * 50 + 1);
    if (block == NULL) _exit(9);
    memset(block, i, (size_t)i * 50 + 1);
    free(block);
  }
  ++handled;
}

static void use_parents(void) {
  int i, j;
  for (i = 0; i < 100; ++i) {
    if (parents[i] == NULL) continue;
    for (j = 0; j < 200; ++j)
      if (parents[i][j] != (char)i) _exit(8);
    if (i % 2 == 0) parents[i] = realloc(parents[i], 5000);
    free(parents[i]);
  }
}

static int run_self(void *unused) {
  char *arguments[] = {self, "child", NULL};
  execv(self, arguments);
  _exit(7);
  return unused != NULL;
}

static void at_exit(void) { free(malloc(100)); }

int main(int argc, char **argv) {
  const int count = atoi(argv[1]);
  pthread_t *threads;
  pthread_attr_t attributes;
  int i, status;
  self = argv[0];
  if (argc == 2) {  // the child of an exec
    free(malloc(1000));
    return 0;
  }
  atexit(at_exit);
  pthread_atfork(allocate_some, allocate_some, allocate_some);
  threads = calloc((size_t)count, sizeof *threads);
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 * 1024);
  for (i = 0; i < count; ++i)
    if (pthread_create(&threads[i], &attributes, thread, (void *)(long)i) != 0) return 2;
  for (i = 0; i < 100; ++i) parents[i] = memset(malloc(200), i, 200);
  while (__atomic_load_n(&ready, __ATOMIC_RELAXED) < count) usleep(1000);
  for (i = 0; i < atoi(argv[2]); ++i) {
    pid_t child = -1;
    switch (i % 5) {
      case 0:
      case 1:
        child = fork();
        if (child == 0) {
          prctl(PR_SET_PDEATHSIG, SIGKILL);  // a child that hangs must not outlive the test
          use_parents();
          if (i % 5 == 0) exit(0);
          _exit(0);
        }
        break;
      case 2:
        child = vfork();
        if (child == 0) run_self(NULL);
        break;
      case 3: {
        char *arguments[] = {self, "child", NULL};
        if (posix_spawn(&child, self, NULL, NULL, arguments, environ) != 0) return 3;
        break;
      }
      default: child = clone(run_self, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    }
    if (child <= 0 || waitpid(child, &status, 0) != child || status != 0) {
      fprintf(stderr, "round %d: status %x\n", i, status);
      return 4;
    }
  }
  __atomic_store_n(&go_on, 0, __ATOMIC_RELAXED);
  for (i = 0; i < count; ++i) pthread_join(threads[i], NULL);
  use_parents();
  free(threads);
  return handled < 2 * 2;
}
