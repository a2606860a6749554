/* Opening files (man: open(2), fcntl(2)). Values: SVR4, the later ones public header.
   O_CLOEXEC (0x800000) is left out on purpose: Solaris 10 does not have it. */
#ifndef _FCNTL_H
#define _FCNTL_H

#include <sys/types.h>

#define O_RDONLY 0
#define O_WRONLY 1
#define O_RDWR 2
#define O_ACCMODE 3
#define O_NDELAY 0x04
#define O_APPEND 0x08
#define O_SYNC 0x10
#define O_NONBLOCK 0x80
#define O_CREAT 0x100
#define O_TRUNC 0x200
#define O_EXCL 0x400
#define O_NOCTTY 0x800
#define O_NOFOLLOW 0x20000

#define F_DUPFD 0
#define F_GETFD 1
#define F_SETFD 2
#define F_GETFL 3
#define F_SETFL 4
#define FD_CLOEXEC 1

__SOLARIS_BEGIN
extern int open(const char *, int, ...) __SOLARIS_LARGE_FILE(open);
extern int fcntl(int, int, ...);
__SOLARIS_END

#endif
