// A process with threads that allocate all the time forks again and again; the children allocate, free and leave.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int go_on = 1;

static void work(int rounds) {
  char *blocks[32] = {0};
  int i;
  for (i = 0; i < rounds; ++i) {
    char **block = &blocks[i % 32];
    *block = realloc(*block, (size_t)(i * 31) % 3000 + 1);
    memset(*block, i, (size_t)(i * 31) % 3000 + 1);
    if (i % 5 == 0) free(*block), *block = NULL;
  }
  for (i = 0; i < 32; ++i) free(blocks[i]);
}

static void *thread(void *unused) {
  while (__atomic_load_n(&go_on, __ATOMIC_RELAXED)) work(200);
  return unused;
}

int main(void) {
  pthread_t threads[4];
  int i, status;
  for (i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, thread, NULL);
  for (i = 0; i < 40; ++i) {
    const pid_t child = i % 4 == 3 ? vfork() : fork();
    if (child == 0) {
      if (i % 4 != 3) work(500);
      _exit(0);
    }
    if (waitpid(child, &status, 0) != child || status != 0) return 4;
  }
  __atomic_store_n(&go_on, 0, __ATOMIC_RELAXED);
  for (i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  return 0;
}
