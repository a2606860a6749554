/* The basic types of Solaris x86, ILP32 and LP64. Widths: SVR4 for 32 bit, lp64(5) for 64 bit, LFS for off_t. */
#ifndef _SYS_TYPES_H
#define _SYS_TYPES_H

#ifndef __sun
#error "this header is for Solaris: compile with --target=...-solaris2.11"
#endif

#include <stddef.h>
#include <stdint.h>

typedef unsigned char uchar_t;
typedef unsigned short ushort_t;
typedef unsigned int uint_t;
typedef unsigned long ulong_t;
typedef char *caddr_t;

typedef long time_t;
typedef unsigned long dev_t;
typedef unsigned int uid_t;
typedef unsigned int gid_t;

#ifdef _LP64
typedef long ssize_t;
typedef int pid_t;
typedef unsigned int mode_t;
typedef unsigned int nlink_t;
typedef int blksize_t;
#else
typedef int ssize_t;
typedef long pid_t;
typedef unsigned long mode_t;
typedef unsigned long nlink_t;
typedef long blksize_t;
#endif

#if !defined(_LP64) && _FILE_OFFSET_BITS == 64
typedef long long off_t;
typedef unsigned long long ino_t;
typedef long long blkcnt_t;
#else
typedef long off_t;
typedef unsigned long ino_t;
typedef long blkcnt_t;
#endif

/* In a 32-bit program compiled for large files the plain name stands for the 64-bit function (LFS). */
#if !defined(_LP64) && _FILE_OFFSET_BITS == 64
#define __SOLARIS_LARGE_FILE(name) __asm__(#name "64")
#else
#define __SOLARIS_LARGE_FILE(name)
#endif

#ifdef __cplusplus
#define __SOLARIS_BEGIN extern "C" {
#define __SOLARIS_END }
#else
#define __SOLARIS_BEGIN
#define __SOLARIS_END
#endif

#endif
