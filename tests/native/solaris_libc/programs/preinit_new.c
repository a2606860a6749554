// A program whose preinit array calls operator new, by its mangled name: where malloc is not ours, this is the first call of ours.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __LP64__
void *_Znwm(size_t) __attribute__((weak));
#define NEW _Znwm
#else
void *_Znwj(size_t) __attribute__((weak));
#define NEW _Znwj
#endif
void _ZdlPv(void *) __attribute__((weak));

static char *early;

static void preinit(void) { early = strcpy(NEW(100), "early"); }

__attribute__((section(".preinit_array"), used)) static void (*const entry)(void) = preinit;

int main(void) {
  if (strcmp(early, "early") != 0) return 4;
  early = realloc(early, 5000);
  _ZdlPv(early);
  puts("well");
  return 0;
}
