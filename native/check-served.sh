#!/bin/sh
# make check: the library as built, preloaded into a program, leaves it on the system's malloc when no allocator is there.
LD_PRELOAD=`pwd`/.libs/libmemproxy.so MEMPROXY_ROUTE=custom ./served >check-served.out || exit 1
cat check-served.out
grep '"route": "system", "reason": "no-allocator"' check-served.out >/dev/null
