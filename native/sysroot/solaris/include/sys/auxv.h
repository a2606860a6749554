/* The auxiliary vector that the kernel puts behind the environment. Layout: SVR4; Solaris types: public header. */
#ifndef _SYS_AUXV_H
#define _SYS_AUXV_H

#include <sys/types.h>

typedef struct {
  int a_type;
  union {
    long a_val;
    void *a_ptr;
    void (*a_fcn)(void);
  } a_un;
} auxv_t;

#define AT_NULL 0
#define AT_PAGESZ 6
#define AT_SUN_EXECNAME 2014

#endif
