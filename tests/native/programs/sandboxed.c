// Forbids itself every system call but read, write, exit (seccomp's strict mode) and goes on allocating what it has allocated
// before.
#define _GNU_SOURCE
#include <linux/seccomp.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void work(void) {
  int i;
  char *blocks[20];
  for (i = 0; i < 20; ++i) {
    blocks[i] = i % 2 ? malloc(100) : calloc(10, 10);
    if (blocks[i] == NULL) _exit(2);
    memset(blocks[i], i, 100);
  }
  for (i = 0; i < 20; ++i) {
    if (malloc_usable_size(blocks[i]) < 100) _exit(3);
    blocks[i] = realloc(blocks[i], 120);
    free(blocks[i]);
  }
}

int main(void) {
  work();
  work();
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) return 5;
  work();
  (void)!write(1, "ok\n", 3);
  syscall(SYS_exit, 0);
  return 6;
}
