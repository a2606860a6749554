// Answers questions to the exclusion list reader.
//
//   exclusions_driver LIST NAME    one question: prints `ROUTE LINE`, or `-` if no line matches
//   exclusions_driver LIST         many: reads records from standard input, each a list and the names to look up in it
//                                  (32-bit little-endian lengths in front of every string and count), writes each list to
//                                  the file LIST and prints an answer a line
//
// Exit status 9: the reader changed errno, left a descriptor open, or wrote to a result that it had no answer for.
// With -DOWN_CALLS the program defines the functions that a careless reader would call, and dies if one is called.

#include "exclusions.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef OWN_CALLS
extern "C" {
static bool armed;
#define OWN(type, name, arguments) \
  type name arguments { _exit(armed ? 8 : 7); }
OWN(int, open, (const char *, int, ...))
OWN(int, open64, (const char *, int, ...))
OWN(int, openat, (int, const char *, int, ...))
OWN(int, close, (int))
OWN(ssize_t, read, (int, void *, size_t))
OWN(char *, getcwd, (char *, size_t))
OWN(void *, calloc, (size_t, size_t))
OWN(void *, mmap, (void *, size_t, int, int, int, long))
}
#endif

static void answer(const char *list, const char *name) {
  Route route = static_cast<Route>(77);
  unsigned line = 77777;
  errno = 4242;
#ifdef OWN_CALLS
  armed = true;
#endif
  const bool found = exclusions_lookup(list, name, &route, &line);
#ifdef OWN_CALLS
  armed = false;
#endif
  if (errno != 4242) _exit(9);
  if (!found && (route != static_cast<Route>(77) || line != 77777)) _exit(9);
  char text[64];
  const int length = found ? snprintf(text, sizeof text, "%s %u\n", route_name(route), line) : snprintf(text, sizeof text, "-\n");
  if (fwrite(text, 1, static_cast<size_t>(length), stdout) != static_cast<size_t>(length)) _exit(6);
}

#ifndef OWN_CALLS
static size_t number() {
  unsigned char b[4];
  if (fread(b, 1, 4, stdin) != 4) return SIZE_MAX;
  return b[0] | b[1] << 8 | b[2] << 16 | static_cast<size_t>(b[3]) << 24;
}

static char *string(size_t *length) {
  *length = number();
  char *text = static_cast<char *>(malloc(*length + 1));
  if (text == nullptr || fread(text, 1, *length, stdin) != *length) _exit(6);
  text[*length] = '\0';
  return text;
}
#endif

int main(int argc, char **argv) {
  if (argc == 3) {
    answer(argv[1], argv[2]);
    return fflush(stdout);
  }
#ifdef OWN_CALLS
  return 2;
#else
  if (argc != 2) return 2;
  const int before = dup(0);
  close(before);
  for (size_t size; (size = number()) != SIZE_MAX;) {
    char *list = static_cast<char *>(malloc(size + 1));
    if (fread(list, 1, size, stdin) != size) return 6;
    FILE *file = fopen(argv[1], "wb");
    if (file == nullptr || fwrite(list, 1, size, file) != size || fclose(file) != 0) return 6;
    free(list);
    for (size_t count = number(), length; count > 0; --count) {
      char *name = string(&length);
      answer(argv[1], name);
      free(name);
    }
  }
  const int after = dup(0);
  if (after != before) _exit(9);
  return fflush(stdout);
#endif
}
