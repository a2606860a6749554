/* Memory mappings (man: mmap(2), mprotect(2), munmap(2), madvise(3C)). Values: public header. */
#ifndef _SYS_MMAN_H
#define _SYS_MMAN_H

#include <sys/types.h>

#define PROT_NONE 0
#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4

#define MAP_SHARED 1
#define MAP_PRIVATE 2
#define MAP_FIXED 0x10
#define MAP_NORESERVE 0x40
#define MAP_ANON 0x100
#define MAP_ANONYMOUS MAP_ANON
#define MAP_FAILED ((void *)-1)

#define MADV_NORMAL 0
#define MADV_DONTNEED 4
#define MADV_FREE 5

__SOLARIS_BEGIN
extern void *mmap(void *, size_t, int, int, int, off_t) __SOLARIS_LARGE_FILE(mmap);
extern int munmap(void *, size_t);
extern int mprotect(void *, size_t, int);
__SOLARIS_END

#endif
