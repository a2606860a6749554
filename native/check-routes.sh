#!/bin/sh
# make check: preloaded into a program, the library sends it where the exclusion list, the environment, and the allocators that
# are there say.
here=`pwd`/.libs
list=`pwd`/check-routes.conf
status=0

# expect WHAT ROUTE REASON SERVER PRELOAD: how served, with the list that is there, is to describe itself
expect() {
  LD_PRELOAD=$5 ./served >check-routes.out || status=1
  case `cat check-routes.out` in
  *'"route": "'$2'", "reason": "'$3'", "allocator": "'*"$4"'"'*) echo "$1: route $2, $3" ;;
  *)
    echo "$1: wanted route $2, reason $3, allocator $4; got"
    cat check-routes.out
    status=1
    ;;
  esac
}

unset MEMPROXY_ROUTE MEMPROXY_DEBUG
both="$here/libcheck.so $here/libbump.so"
rm -f "$list"
expect 'no list' custom default /libbump.so "$both"
expect 'no allocator' system no-allocator '' "$here/libcheck.so"
echo 'other' >"$list"
expect 'not listed' custom default /libbump.so "$both"
echo 'serve[de]' >>"$list"
expect 'listed' system list '' "$both"
MEMPROXY_ROUTE=custom
export MEMPROXY_ROUTE
expect 'listed, MEMPROXY_ROUTE=custom' custom environment /libbump.so "$both"
unset MEMPROXY_ROUTE
# The library as it will be installed, whatever its own list says.
MEMPROXY_ROUTE=system
export MEMPROXY_ROUTE
expect 'MEMPROXY_ROUTE=system' system environment '' "$here/libmemproxy.so $here/libbump.so"
rm -f "$list" check-routes.out
exit $status
