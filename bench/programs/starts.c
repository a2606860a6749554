/* Starts a program in two environments by turns (A B B A ...) and prints the nanoseconds of each pair: of A, and of B.
   Usage: starts PAIRS PROGRAM NAME=VALUE... -- NAME=VALUE... */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

static long long once(char *program, char **environment) {
  struct timespec before, after;
  char *arguments[] = {program, NULL};
  pid_t child;
  int status;
  clock_gettime(CLOCK_MONOTONIC, &before);
  if (posix_spawn(&child, program, NULL, NULL, arguments, environment) != 0) exit(1);
  if (waitpid(child, &status, 0) != child || status != 0) exit(1);
  clock_gettime(CLOCK_MONOTONIC, &after);
  return (after.tv_sec - before.tv_sec) * 1000000000LL + (after.tv_nsec - before.tv_nsec);
}

int main(int argc, char **argv) {
  char **environments[2] = {argv + 3, NULL};
  if (argc < 4) return 2;
  for (char **word = argv + 3; *word != NULL; ++word)
    if (strcmp(*word, "--") == 0) {
      *word = NULL;
      environments[1] = word + 1;
      break;
    }
  if (environments[1] == NULL) return 2;
  for (int pair = -2, pairs = atoi(argv[1]); pair < pairs; ++pair) { /* the first two only warm up */
    long long taken[2];
    const int first = pair & 1;
    taken[first] = once(argv[2], environments[first]);
    taken[!first] = once(argv[2], environments[!first]);
    if (pair >= 0) printf("%lld %lld\n", taken[0], taken[1]);
  }
  return 0;
}
