// The exclusion list (memproxy.conf): which line of it, if any, decides the route of this executable.
#ifndef MEMPROXY_EXCLUSIONS_H
#define MEMPROXY_EXCLUSIONS_H

#include "export.h"
#include "route_name.h"

// The list that is compiled in: memproxy.conf in the directory or under the path that configure was told. (list_path.cc)
extern HIDDEN const char exclusions_list_path[];

// Reads the file `list` and looks for the first line that matches `executable`. True if there is one; then *route is
// the line's route and *line its number, counted from 1 (either pointer may be null).
//
// `executable` is what the system reports: an absolute path, or a name relative to the working directory, as getexecname(3C)
// gives it for a program that was started so (it is then completed by the working directory). Null or "" is a program of
// unknown name: only a line of nothing but stars matches it.
//
// False also for a list that is missing, unreadable or not a regular file. Never allocates, blocks on a FIFO, writes, or takes
// a lock; keeps no descriptor; leaves errno alone; needs about 2 KiB of stack and 8 KiB of static memory, whatever the
// length of the file or of its lines. At most five system calls for a list under 4 KiB, one more for a relative name.
// Safe before any constructor and in any thread, but in one at a time. The grammar is in docs/exclusions.md.
bool exclusions_lookup(const char *list, const char *executable, Route *route, unsigned *line);

#endif
