/* Two producers hand batches of fresh blocks to two consumers, which free them. Usage: threads BATCHES (a producer). */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "sizes.h"

enum { kBatch = 64, kPlaces = 16 };

struct channel {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  char *blocks[kPlaces][kBatch];
  unsigned long put, taken;
};

static unsigned short sizes[kSizes];
static unsigned long batches;

static void *produce(void *argument) {
  struct channel *channel = argument;
  for (unsigned long i = 0; i < batches; ++i) {
    char *batch[kBatch];
    for (unsigned long j = 0; j < kBatch; ++j) {
      batch[j] = malloc(sizes[(i * kBatch + j) % kSizes]);
      *batch[j] = (char)j;
    }
    pthread_mutex_lock(&channel->lock);
    while (channel->put - channel->taken == kPlaces) pthread_cond_wait(&channel->changed, &channel->lock);
    for (int j = 0; j < kBatch; ++j) channel->blocks[channel->put % kPlaces][j] = batch[j];
    ++channel->put;
    pthread_cond_signal(&channel->changed);
    pthread_mutex_unlock(&channel->lock);
  }
  return NULL;
}

static void *consume(void *argument) {
  struct channel *channel = argument;
  unsigned long sum = 0;
  for (unsigned long i = 0; i < batches; ++i) {
    char *batch[kBatch];
    pthread_mutex_lock(&channel->lock);
    while (channel->put == channel->taken) pthread_cond_wait(&channel->changed, &channel->lock);
    for (int j = 0; j < kBatch; ++j) batch[j] = channel->blocks[channel->taken % kPlaces][j];
    ++channel->taken;
    pthread_cond_signal(&channel->changed);
    pthread_mutex_unlock(&channel->lock);
    for (int j = 0; j < kBatch; ++j) {
      sum += (unsigned char)*batch[j];
      free(batch[j]);
    }
  }
  return (void *)sum;
}

int main(int argc, char **argv) {
  static struct channel channels[2] = {{PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {{0}}, 0, 0},
                                       {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {{0}}, 0, 0}};
  pthread_t threads[4];
  if (argc != 2) return 2;
  batches = strtoul(argv[1], NULL, 10);
  fill_sizes(sizes);
  for (int i = 0; i < 4; ++i)
    if (pthread_create(&threads[i], NULL, i % 2 ? consume : produce, &channels[i / 2]) != 0) return 1;
  unsigned long sum = 0;
  for (int i = 0; i < 4; ++i) {
    void *result;
    pthread_join(threads[i], &result);
    sum += (unsigned long)result;
  }
  return printf("%lu\n", sum) < 0;
}
