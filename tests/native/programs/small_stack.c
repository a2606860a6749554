// The library of a program, whose constructor asks for memory on a stack of its own and sees how much of that was needed.
// It prints what libmemproxy's state was before, and the bytes of stack.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "memproxy.h"

enum { kSize = 64 * 1024 };
static unsigned char stack[kSize] __attribute__((aligned(64)));
static ucontext_t outside, inside;
static unsigned char *top;
static void *block;
static unsigned state = 99;

static void first(void) {
  unsigned char here;
  top = &here;
  block = malloc(100);
}

__attribute__((constructor)) static void start(void) {
  const struct memproxy_record *record = dlsym(RTLD_DEFAULT, "memproxy_record");
  if (record != NULL) state = record->state;
  memset(stack, 0xa5, kSize);
  getcontext(&inside);
  inside.uc_stack.ss_sp = stack;
  inside.uc_stack.ss_size = kSize;
  inside.uc_link = &outside;
  makecontext(&inside, first, 0);
  swapcontext(&outside, &inside);
}

int early_object_check(void) {
  size_t lowest = 0;
  while (lowest < kSize && stack[lowest] == 0xa5) ++lowest;
  free(block);
  return printf("%u %d\n", state, (int)(top - (stack + lowest))) < 0;
}
