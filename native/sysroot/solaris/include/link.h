/* The list of loaded objects, as dlinfo(RTLD_DI_LINKMAP) gives it (man: dlinfo(3C); members: SVR4, l_refname public
   header). */
#ifndef _LINK_H
#define _LINK_H

#include <dlfcn.h>
#include <sys/types.h>

typedef struct link_map Link_map;

struct link_map {
  unsigned long l_addr;
  char *l_name;
  void *l_ld;
  Link_map *l_next;
  Link_map *l_prev;
  char *l_refname;
};

#endif
