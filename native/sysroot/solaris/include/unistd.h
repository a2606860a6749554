/* System calls and settings (man: the page of each name). */
#ifndef _UNISTD_H
#define _UNISTD_H

#include <sys/types.h>

#define STDIN_FILENO 0
#define STDOUT_FILENO 1
#define STDERR_FILENO 2
#define SEEK_SET 0
#define SEEK_CUR 1
#define SEEK_END 2
#define F_OK 0
#define X_OK 1
#define W_OK 2
#define R_OK 4

#define _SC_PAGESIZE 11 /* SVR4 */
#define _SC_PAGE_SIZE _SC_PAGESIZE

__SOLARIS_BEGIN
extern int close(int);
extern ssize_t read(int, void *, size_t);
extern ssize_t write(int, const void *, size_t);
extern off_t lseek(int, off_t, int) __SOLARIS_LARGE_FILE(lseek);
extern ssize_t readlink(const char *__restrict, char *__restrict, size_t);
extern long sysconf(int);
extern char *getcwd(char *, size_t); /* with a null pointer it calls malloc: never do that here */
extern pid_t getpid(void);
extern uid_t getuid(void);
extern uid_t geteuid(void);
extern gid_t getgid(void);
extern gid_t getegid(void);
extern int issetugid(void); /* man: issetugid(2) */
extern void _exit(int) __attribute__((__noreturn__));
__SOLARIS_END

#endif
