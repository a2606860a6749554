/* The general functions of the C library (man: the page of each name). The malloc family is declared for programs that
   define or look it up; see malloc(3C), where memalign and valloc are declared here too. */
#ifndef _STDLIB_H
#define _STDLIB_H

#include <sys/types.h>

#define EXIT_SUCCESS 0
#define EXIT_FAILURE 1

__SOLARIS_BEGIN
extern void *malloc(size_t);
extern void *calloc(size_t, size_t);
extern void *realloc(void *, size_t);
extern void free(void *);
extern void *memalign(size_t, size_t);
extern void *valloc(size_t);
extern char *getenv(const char *);
extern const char *getexecname(void); /* man: getexecname(3C) */
extern void abort(void) __attribute__((__noreturn__));
extern void exit(int) __attribute__((__noreturn__));
__SOLARIS_END

#endif
