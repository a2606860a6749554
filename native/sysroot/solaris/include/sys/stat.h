/* File status (man: stat(2)). Member order and padding: SVR4 for 32 bit, LFS for large files, public header for 64 bit. */
#ifndef _SYS_STAT_H
#define _SYS_STAT_H

#include <sys/types.h>
#include <time.h>

struct stat {
  dev_t st_dev;
#ifndef _LP64
  long st_pad1[3];
#endif
  ino_t st_ino;
  mode_t st_mode;
  nlink_t st_nlink;
  uid_t st_uid;
  gid_t st_gid;
  dev_t st_rdev;
#ifndef _LP64
  long st_pad2[2];
#endif
  off_t st_size;
#if !defined(_LP64) && _FILE_OFFSET_BITS != 64
  long st_pad3;
#endif
  struct timespec st_atim;
  struct timespec st_mtim;
  struct timespec st_ctim;
  blksize_t st_blksize;
  blkcnt_t st_blocks;
  char st_fstype[16];
#ifndef _LP64
  long st_pad4[8];
#endif
};

/* 128 bytes in 64 bit; 136 in 32 bit, 144 with large files, where long long is aligned to 4 (SVR4 for Intel386), and 152 where
   to 8 (SVR4 for SPARC). */
typedef char __solaris_stat_size[
#ifdef _LP64
    sizeof(struct stat) == 128
#elif _FILE_OFFSET_BITS == 64 && defined(__sparc__)
    sizeof(struct stat) == 152
#elif _FILE_OFFSET_BITS == 64
    sizeof(struct stat) == 144
#else
    sizeof(struct stat) == 136
#endif
        ? 1
        : -1];

#define S_IFMT 0xF000
#define S_IFIFO 0x1000
#define S_IFCHR 0x2000
#define S_IFDIR 0x4000
#define S_IFBLK 0x6000
#define S_IFREG 0x8000
#define S_IFLNK 0xA000
#define S_IFSOCK 0xC000
#define S_ISUID 0x800
#define S_ISGID 0x400
#define S_ISFIFO(mode) (((mode) & S_IFMT) == S_IFIFO)
#define S_ISCHR(mode) (((mode) & S_IFMT) == S_IFCHR)
#define S_ISDIR(mode) (((mode) & S_IFMT) == S_IFDIR)
#define S_ISBLK(mode) (((mode) & S_IFMT) == S_IFBLK)
#define S_ISREG(mode) (((mode) & S_IFMT) == S_IFREG)
#define S_ISLNK(mode) (((mode) & S_IFMT) == S_IFLNK)
#define S_ISSOCK(mode) (((mode) & S_IFMT) == S_IFSOCK)
#define S_IRUSR 0400
#define S_IWUSR 0200
#define S_IXUSR 0100
#define S_IRGRP 040
#define S_IWGRP 020
#define S_IXGRP 010
#define S_IROTH 04
#define S_IWOTH 02
#define S_IXOTH 01

__SOLARIS_BEGIN
extern int stat(const char *__restrict, struct stat *__restrict) __SOLARIS_LARGE_FILE(stat);
extern int lstat(const char *__restrict, struct stat *__restrict) __SOLARIS_LARGE_FILE(lstat);
extern int fstat(int, struct stat *) __SOLARIS_LARGE_FILE(fstat);
__SOLARIS_END

#endif
