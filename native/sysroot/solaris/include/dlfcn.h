/* The runtime linker's programming interface, in libc since Solaris 10 (man: dlopen(3C), dlsym(3C), dladdr(3C),
   dlinfo(3C)). Values: public header. */
#ifndef _DLFCN_H
#define _DLFCN_H

#include <sys/types.h>

typedef struct dl_info {
  const char *dli_fname;
  void *dli_fbase;
  const char *dli_sname;
  void *dli_saddr;
} Dl_info;

typedef unsigned long Lmid_t;

#define RTLD_LAZY 0x1
#define RTLD_NOW 0x2
#define RTLD_NOLOAD 0x4
#define RTLD_LOCAL 0
#define RTLD_GLOBAL 0x100
#define RTLD_PARENT 0x200
#define RTLD_GROUP 0x400
#define RTLD_WORLD 0x800
#define RTLD_NODELETE 0x1000
#define RTLD_FIRST 0x2000

#define RTLD_NEXT ((void *)-1)
#define RTLD_DEFAULT ((void *)-2)
#define RTLD_SELF ((void *)-3)
#define RTLD_PROBE ((void *)-4)

#define RTLD_DI_LMID 1
#define RTLD_DI_LINKMAP 2
#define RTLD_DL_LINKMAP 2

__SOLARIS_BEGIN
extern void *dlopen(const char *, int);
extern void *dlsym(void *__restrict, const char *__restrict);
extern int dlclose(void *);
extern char *dlerror(void);
extern int dladdr(void *, Dl_info *); /* the address is not const on Solaris 10 */
extern int dladdr1(void *, Dl_info *, void **, int);
extern int dlinfo(void *, int, void *);
__SOLARIS_END

#endif
