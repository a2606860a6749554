// A process with threads that allocate all the time forks again and again; the children allocate, free and leave.
//
// It begins when all threads have allocated for a while. jemalloc 5.3.0 for i386 has a deadlock of its own, in the child of a
// fork at a time when arenas are still being made: preloaded alone in 8 of 5,176 runs of this program without the wait, with
// libmemproxy in front in 8 of 5,104, at the same place.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int go_on = 1, ready;

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
  work(5000);
  __atomic_add_fetch(&ready, 1, __ATOMIC_RELAXED);
  while (__atomic_load_n(&go_on, __ATOMIC_RELAXED)) work(200);
  return unused;
}

int main(void) {
  pthread_t threads[4];
  int i, status;
  for (i = 0; i < 4; ++i) pthread_create(&threads[i], NULL, thread, NULL);
  work(5000);
  while (__atomic_load_n(&ready, __ATOMIC_RELAXED) < 4) usleep(1000);
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
