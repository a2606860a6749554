// Static probes for gdb, perf, bpftrace, SystemTap and DTrace: where the route is decided and where bootstrap memory is given
// out. On Linux each is one nop and a note in the file. There is none in malloc or free, and none without sys/sdt.h.
//
// MEMPROXY_DECIDE()                                            the decision begins; may never end if the process dies in it
// MEMPROXY_ROUTE(word, reason, executable, line, allocator)   it has ended: words and paths as in memproxy.h; a path may be null
// MEMPROXY_BOOTSTRAP(block, size, alignment)                   a request was served before the decision
#ifndef MEMPROXY_PROBES_H
#define MEMPROXY_PROBES_H

#if defined(MEMPROXY_USDT_NOTES)
#include <sys/sdt.h>
#ifdef __clang__
#pragma clang diagnostic ignored "-Wgnu-zero-variadic-macro-arguments"  // what the header's macros are made of
#endif
#define MEMPROXY_DECIDE() STAP_PROBE(memproxy, decide)
#define MEMPROXY_ROUTE(word, reason, executable, line, allocator) \
  STAP_PROBE5(memproxy, route, word, reason, executable, line, allocator)
#define MEMPROXY_BOOTSTRAP(block, size, alignment) STAP_PROBE3(memproxy, bootstrap, block, size, alignment)
#elif defined(MEMPROXY_USDT_DTRACE)
#include "probes_dtrace.h"  // made from probes.d
#else
#define MEMPROXY_DECIDE() static_cast<void>(0)
#define MEMPROXY_ROUTE(word, reason, executable, line, allocator) static_cast<void>(0)
#define MEMPROXY_BOOTSTRAP(block, size, alignment) static_cast<void>(0)
#endif

#endif
