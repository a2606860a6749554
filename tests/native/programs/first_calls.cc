// The library's own sources and this, in one program under ThreadSanitizer: many threads make the process's first requests at
// once, while one of them decides. exports.cc and operators.cc are not in it, for malloc must stay ThreadSanitizer's.
//
// memproxy.cc's constructor would decide before there are threads: the test takes it out of the object file.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap.h"
#include "memproxy.h"
#include "route.h"

void operators_find(Object, Object) {}

namespace {

enum { kThreads = 8, kBlocks = 300 };

// The library reads its tables by plain loads. On the machines that it is made for (x86, SPARC in its TSO mode) such a load of a
// word is one that acquires; ThreadSanitizer must be told.
template <typename Word>
Word now(const Word &word) {
  return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
}

pthread_barrier_t together;
unsigned bootstrap_blocks;  // atomic
void *handed_over[kThreads][kBlocks];

void fill(void *block, size_t size, unsigned char with) {
  if (block == nullptr) abort();
  memset(block, with, size);
}

void check(const void *block, size_t size, unsigned char with) {
  for (size_t i = 0; i < size; ++i)
    if (static_cast<const unsigned char *>(block)[i] != with) abort();
}

// Blocks of every kind, half of which are left in handed_over.
void round(unsigned self) {
  const unsigned char mark = static_cast<unsigned char>(self + 1);
  for (unsigned i = 0; i < kBlocks; ++i) {
    const size_t size = 1 + (i * 37 + self) % 300;
    void *block = i % 3 == 0   ? now(heap_entry.malloc)(size)
                  : i % 3 == 1 ? now(heap_entry.calloc)(1, size)
                               : now(heap_entry.memalign)(64, size);
    if (i % 3 == 1) check(block, size, 0);
    if (bootstrap_owns(block)) __atomic_add_fetch(&bootstrap_blocks, 1u, __ATOMIC_RELAXED);
    fill(block, size, mark);
    if (i % 4 == 0) {
      block = now(heap_entry.realloc)(block, size + 50);
      check(block, size, mark);
      fill(block, size + 50, mark);
    }
    now(heap_entry.free)(handed_over[self][i]);
    handed_over[self][i] = block;
    if (i % 2 == 0) {
      now(heap_entry.free)(block);
      handed_over[self][i] = nullptr;
    }
  }
}

void *work(void *argument) {
  const unsigned self = *static_cast<unsigned *>(argument);
  pthread_barrier_wait(&together);
  bool ready;
  do {
    ready = now(memproxy_record.state) == MEMPROXY_STATE_READY;
    round(self);
  } while (!ready);
  check(memproxy_route(), 1, 's');
  // Blocks that another thread was given, before or after the decision.
  pthread_barrier_wait(&together);
  for (unsigned i = 0; i < kBlocks; ++i) {
    void *block = handed_over[(self + 1) % kThreads][i];
    if (block != nullptr && now(heap_base.usable_size)(block) == 0) abort();
    now(heap_base.free)(block);
  }
  return nullptr;
}

}  // namespace

int main() {
  pthread_t threads[kThreads];
  unsigned numbers[kThreads];
  pthread_barrier_init(&together, nullptr, kThreads);
  if (now(memproxy_record.state) != MEMPROXY_STATE_START) return 2;
  for (unsigned i = 0; i < kThreads; ++i) {
    numbers[i] = i;
    if (pthread_create(&threads[i], nullptr, work, &numbers[i]) != 0) return 3;
  }
  for (unsigned i = 0; i < kThreads; ++i) pthread_join(threads[i], nullptr);
  printf("%s %s, %u from the bootstrap region\n", memproxy_route(), memproxy_reason(), bootstrap_blocks);
  return 0;
}
