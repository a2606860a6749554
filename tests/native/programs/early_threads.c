// Threads that exist before any initialiser has run, and so before the decision, allocate from then on without a pause.
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 8, BLOCKS = 64 };

static pthread_t threads[THREADS];
static volatile int stop, wrong;

static void expect(int condition, const char *what) {
  if (condition) return;
  wrong = 1;
  (void)!write(2, what, strlen(what));
  _exit(1);
}

static int holds(const unsigned char *block, size_t size, int value) {
  while (size > 0 && block[size - 1] == value) --size;
  return size == 0;
}

static void *work(void *number) {
  unsigned random = (unsigned)(uintptr_t)number * 7919 + 1;
  void *blocks[BLOCKS] = {0};
  size_t sizes[BLOCKS] = {0};
  for (long turn = 0; !stop || turn < 200; ++turn) {
    random = random * 1103515245 + 12345;
    const int i = random >> 16 & (BLOCKS - 1);
    const size_t size = 1 + (random >> 10) % 500;
    const unsigned kind = (random >> 8) % 7;
    if (blocks[i] == NULL) {
      void *block = NULL;
      if (kind == 0) {
        block = calloc(1, size);
        expect(block != NULL && holds(block, size, 0), "calloc\n");
      } else if (kind == 1) {
        expect(posix_memalign(&block, 64, size) == 0 && (uintptr_t)block % 64 == 0, "posix_memalign\n");
      } else {
        block = malloc(size);
        expect(block != NULL, "malloc\n");
      }
      expect(malloc_usable_size(block) >= size, "malloc_usable_size\n");
      memset(block, i + 1, size);
      blocks[i] = block;
      sizes[i] = size;
      continue;
    }
    expect(holds(blocks[i], sizes[i], i + 1), "content\n");
    if (kind < 3) {
      blocks[i] = realloc(blocks[i], size);
      expect(blocks[i] != NULL && holds(blocks[i], size < sizes[i] ? size : sizes[i], i + 1), "realloc\n");
      memset(blocks[i], i + 1, size);
      sizes[i] = size;
    } else {
      free(blocks[i]);
      blocks[i] = NULL;
    }
  }
  for (int i = 0; i < BLOCKS; ++i) free(blocks[i]);
  return NULL;
}

static void start(void) {
  for (uintptr_t i = 0; i < THREADS; ++i) expect(pthread_create(&threads[i], NULL, work, (void *)i) == 0, "thread\n");
}
__attribute__((section(".preinit_array"), used)) static void (*const before_all)(void) = start;

int main(void) {
  usleep(500);
  stop = 1;
  for (int i = 0; i < THREADS; ++i) pthread_join(threads[i], NULL);
  return wrong;
}
