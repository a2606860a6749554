// A preload by which the system does not tell the program's name, as getexecname(3C) without /proc: neither /proc/self/exe nor
// the auxiliary vector has it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/syscall.h>

unsigned long getauxval(unsigned long type) { return 0; }

long syscall(long number, ...) {
  static long (*real)(long, ...);
  long words[6];
  va_list list;
  int i;
  if (number == SYS_readlinkat) {
    errno = ENOENT;
    return -1;
  }
  va_start(list, number);
  for (i = 0; i < 6; ++i) words[i] = va_arg(list, long);
  va_end(list);
  if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, "syscall");
  return real(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
