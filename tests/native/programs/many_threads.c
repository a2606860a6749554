// Very many threads on small stacks make their first requests for memory at once: many_threads COUNT.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;
static int done, wrong;

static void *work(void *number) {
  char *blocks[4];
  int i;
  pthread_rwlock_rdlock(&gate);
  for (i = 0; i < 4; ++i) {
    blocks[i] = malloc(100u + (unsigned)i);
    if (blocks[i] == NULL) return wrong = 1, NULL;
    memset(blocks[i], (int)(long)number, 100);
  }
  for (i = 0; i < 4; ++i) {
    if (blocks[i][99] != (char)(long)number) wrong = 1;
    free(blocks[i]);
  }
  __atomic_add_fetch(&done, 1, __ATOMIC_RELAXED);
  pthread_rwlock_unlock(&gate);
  return NULL;
}

int main(int argc, char **argv) {
  const long count = atol(argv[argc - 1]);
  pthread_t *threads = calloc((size_t)count, sizeof *threads);
  pthread_attr_t small;
  long i;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 32 * 1024);
  pthread_rwlock_wrlock(&gate);
  for (i = 0; i < count; ++i)
    if (pthread_create(&threads[i], &small, work, (void *)i) != 0) return fprintf(stderr, "thread %ld\n", i), 2;
  pthread_rwlock_unlock(&gate);
  for (i = 0; i < count; ++i) pthread_join(threads[i], NULL);
  free(threads);
  return wrong || done != count;
}
