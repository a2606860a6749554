/* Error numbers (man: Intro(2)). errno is the calling thread's, through libc's ___errno: a program that is compiled
   without _REENTRANT would get the main thread's variable from the system's header, which is never what we want. */
#ifndef _ERRNO_H
#define _ERRNO_H

#include <sys/types.h>

__SOLARIS_BEGIN
extern int *___errno(void) __attribute__((__const__));
__SOLARIS_END

#define errno (*___errno())

/* SVR4 */
#define EPERM 1
#define ENOENT 2
#define ESRCH 3
#define EINTR 4
#define EIO 5
#define ENXIO 6
#define E2BIG 7
#define ENOEXEC 8
#define EBADF 9
#define ECHILD 10
#define EAGAIN 11
#define ENOMEM 12
#define EACCES 13
#define EFAULT 14
#define EBUSY 16
#define EEXIST 17
#define ENODEV 19
#define ENOTDIR 20
#define EISDIR 21
#define EINVAL 22
#define ENFILE 23
#define EMFILE 24
#define EFBIG 27
#define ENOSPC 28
#define ESPIPE 29
#define EROFS 30
#define EPIPE 32
#define EDOM 33
#define ERANGE 34
#define EDEADLK 45
#define ENAMETOOLONG 78
#define EOVERFLOW 79
#define ENOSYS 89
#define ELOOP 90
#define EWOULDBLOCK EAGAIN
/* Not in SVR4: POSIX 1003.1b, on Solaris 48 */
#define ENOTSUP 48

#endif
