/* Memory and strings (C99; man: string(3C), memory(3C)). Only functions of Solaris 10. */
#ifndef _STRING_H
#define _STRING_H

#include <sys/types.h>

__SOLARIS_BEGIN
extern void *memchr(const void *, int, size_t);
extern int memcmp(const void *, const void *, size_t);
extern void *memcpy(void *__restrict, const void *__restrict, size_t);
extern void *memmove(void *, const void *, size_t);
extern void *memset(void *, int, size_t);
extern char *strchr(const char *, int);
extern int strcmp(const char *, const char *);
extern size_t strlen(const char *);
extern int strncmp(const char *, const char *, size_t);
extern char *strrchr(const char *, int);
extern char *strstr(const char *, const char *);
__SOLARIS_END

#endif
