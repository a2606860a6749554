// Which route this process's memory takes, who serves it, and the function tables that lead there.
#ifndef MEMPROXY_ROUTE_H
#define MEMPROXY_ROUTE_H

#include <stddef.h>

#include "export.h"
#include "heap.h"
#include "route_name.h"

// What the exported functions that bear malloc's family names go to. Until the route is decided, functions that decide it.
//
// `heap_base` (heap.h) is the same set, except in a process whose malloc is not ours: there `heap_entry` is what would have
// stood in our place, and `heap_base` what the process calls by the public names.
extern HIDDEN Heap heap_entry;

// Functions by which an allocator reports on itself; a null pointer where it has none. Set when route_ready.
struct RouteReports {
  void *mallinfo, *mallinfo2, *mallopt, *malloc_stats, *malloc_trim, *malloc_info, *malloc_good_size;
};
extern HIDDEN RouteReports route_reports;

// True when the tables are final. The first caller decides; who calls meanwhile gets false and is served by bootstrap.h.
// Keeps errno. `insist`: decide even if the environment cannot be read yet.
bool route_ready(bool insist = false);

// Looks once whose the operators new and delete are: an object's ahead of `self`, which is us, or a library's of the program's
// behind. `custom` may be null. (operators.cc)
void operators_find(Object self, Object custom);

// libc's own functions, if what serves the process is made from them by glibc's internal names, which we export; else null.
const Heap *route_libc();

// As memproxy.h numbers them, for the record; valid when route_ready.
Route route_taken();

#endif
