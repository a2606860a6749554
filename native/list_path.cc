// Where the exclusion list lies. In a file of its own, so that `make check` can link the same objects with another list.

#include "exclusions.h"

#ifndef MEMPROXY_LIST
#error "the path of the exclusion list: compile with -DMEMPROXY_LIST='\"/etc/memproxy.conf\"'"
#endif

const char exclusions_list_path[] = MEMPROXY_LIST;
