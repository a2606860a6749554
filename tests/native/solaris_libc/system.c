// The rest of libc that libmemproxy.so imports: Solaris' numbers and layouts on top of Linux' system calls.
//
// Every number and every offset is written out here once more; nothing is taken from native/sysroot, whose headers the
// objects were compiled with. What is not known ends the process.

#include "lab.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_stack_end;  // what the kernel left there begins with argc

char **sol_environ PUBLIC(environ);
int *sol_errno(void) PUBLIC(___errno);
int sol_issetugid(void) PUBLIC(issetugid);
const char *sol_getexecname(void) PUBLIC(getexecname);
void sol_abort(void) PUBLIC(abort) __attribute__((noreturn));
int sol_open(const char *, int, ...) PUBLIC(open);
int sol_close(int) PUBLIC(close);
ssize_t sol_read(int, void *, size_t) PUBLIC(read);
ssize_t sol_write(int, const void *, size_t) PUBLIC(write);
int sol_fstat(int, void *) PUBLIC(fstat);
char *sol_getcwd(char *, size_t) PUBLIC(getcwd);
long sol_sysconf(int) PUBLIC(sysconf);
void *sol_mmap(void *, size_t, int, int, int, long) PUBLIC(mmap);
int sol_munmap(void *, size_t) PUBLIC(munmap);
#ifndef __LP64__
int sol_open64(const char *, int, ...) PUBLIC(open64);
int sol_fstat64(int, void *) PUBLIC(fstat64);
void *sol_mmap64(void *, size_t, int, int, int, long long) PUBLIC(mmap64);
#endif

// ---- The start: the linker knows the environment before it runs anything, so it is found while relocations are made.

static int set_id(void) {
  const char *option = lab_option("SETUGID");
  NOTE("issetugid");
  return option == NULL ? getauxval(AT_SECURE) != 0 : option[0] == '1';
}

static void find_environment(void) {
  char **word = (char **)__libc_stack_end;
  sol_environ = word + 1 + (long)*word + 1;
}

static int (*start(void))(void) {
  find_environment();
  return set_id;
}

int sol_issetugid(void) __attribute__((ifunc("start")));

static void before_fork(void) {
  lab_lock(&lab_linker_lock);
  lab_lock(&lab_heap_lock);
}

static void after_fork(void) {
  lab_unlock(&lab_heap_lock);
  lab_unlock(&lab_linker_lock);
}

__attribute__((constructor)) static void take_locks_over_fork(void) { pthread_atfork(before_fork, after_fork, after_fork); }

// ---- The laboratory's own.

LOCAL void lab_lock(int *lock) {
  while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE)) syscall(SYS_sched_yield);
}

LOCAL void lab_unlock(int *lock) { __atomic_store_n(lock, 0, __ATOMIC_RELEASE); }

LOCAL int lab_equal(const char *a, const char *b) {
  for (; *a != '\0' && *a == *b; ++a, ++b) continue;
  return *a == *b;
}

LOCAL const char *lab_base(const char *path) {
  const char *base = path;
  for (; *path != '\0'; ++path)
    if (*path == '/') base = path + 1;
  return base;
}

LOCAL const char *lab_option(const char *name) {
  if (sol_environ == NULL) find_environment();
  for (char **entry = sol_environ; *entry != NULL; ++entry) {
    const char *at = *entry;
    const char *want = name;
    if (at[0] != 'L' || at[1] != 'A' || at[2] != 'B' || at[3] != '_') continue;
    for (at += 4; *want != '\0' && *want == *at; ++want, ++at) continue;
    if (*want == '\0' && *at == '=') return at + 1;
  }
  return NULL;
}

// vsnprintf of Linux' libc calls no malloc for what is written here.
LOCAL void lab_note(const void *caller, const char *format, ...) {
  const char *path = lab_option("JOURNAL");
  if (path == NULL) return;
  const int saved = errno;
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  size_t length = (size_t)vsnprintf(line, 400, format, arguments);
  va_end(arguments);
  if (length >= 400) length = 399;
  length += (size_t)snprintf(line + length, 100, " < %s\n", lab_object_name(caller));
  const int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (file >= 0) {
    syscall(SYS_write, file, line, length);
    syscall(SYS_close, file);
  }
  errno = saved;
}

LOCAL void lab_die(const char *message) {
  static const char who[] = "libc.so.1: ";
  size_t length = 0;
  while (message[length] != '\0') ++length;
  syscall(SYS_write, 2, who, sizeof who - 1);
  syscall(SYS_write, 2, message, length);
  syscall(SYS_write, 2, "\n", 1);
  syscall(SYS_kill, syscall(SYS_getpid), 6);
  for (;;) syscall(SYS_exit_group, 134);
}

// ---- Memory and strings.

void *lab_memset(void *to, int byte, size_t size) {
  volatile unsigned char *at = to;
  while (size-- > 0) *at++ = (unsigned char)byte;
  return to;
}

void *lab_memcpy(void *to, const void *from, size_t size) {
  volatile unsigned char *at = to;
  const unsigned char *source = from;
  while (size-- > 0) *at++ = *source++;
  return to;
}

int sol_memcmp(const unsigned char *a, const unsigned char *b, size_t size) PUBLIC(memcmp);
int sol_memcmp(const unsigned char *a, const unsigned char *b, size_t size) {
  for (; size > 0; --size, ++a, ++b)
    if (*a != *b) return *a < *b ? -1 : 1;
  return 0;
}

void *sol_memchr(const void *, int, size_t) PUBLIC(memchr);
void *sol_memchr(const void *from, int byte, size_t size) {
  for (const unsigned char *at = from; size > 0; --size, ++at)
    if (*at == (unsigned char)byte) return (void *)at;
  return NULL;
}

size_t sol_strlen(const char *text) PUBLIC(strlen);
size_t sol_strlen(const char *text) {
  size_t length = 0;
  while (*(const volatile char *)(text + length) != '\0') ++length;
  return length;
}

int sol_strncmp(const char *a, const char *b, size_t size) PUBLIC(strncmp);
int sol_strncmp(const char *a, const char *b, size_t size) {
  for (; size > 0; --size, ++a, ++b)
    if (*a != *b || *a == '\0') return (unsigned char)*a - (unsigned char)*b;
  return 0;
}

int sol_strcmp(const char *a, const char *b) PUBLIC(strcmp);
int sol_strcmp(const char *a, const char *b) { return sol_strncmp(a, b, (size_t)-1); }

char *sol_strrchr(const char *text, int byte) PUBLIC(strrchr);
char *sol_strrchr(const char *text, int byte) {
  const char *last = NULL;
  for (;; ++text) {
    if (*text == (char)byte) last = text;
    if (*text == '\0') return (char *)last;
  }
}

// ---- The process.

int *sol_errno(void) { return &errno; }

void sol_abort(void) { lab_die("abort"); }

LOCAL const char *lab_program(void) {
  static char path[4096];
  const long length = path[0] != '\0' ? 1 : syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", path, sizeof path - 1);
  return length > 0 ? path : "";
}

// LAB_EXECNAME: another name than the program's, or "null" for a process without /proc.
const char *sol_getexecname(void) {
  const char *name = lab_option("EXECNAME");
  NOTE("getexecname");
  if (name == NULL) return lab_program();
  if (!lab_equal(name, "null")) return name;
  errno = ENOENT;
  return NULL;
}

long sol_sysconf(int number) {
  NOTE("sysconf %d", number);
  if (number != 11) lab_die("sysconf: a number that is not _SC_PAGESIZE");
  return 4096;
}

// ---- Files.

static int open_file(const char *path, int flags) {
  int ours = 0;
  switch (flags & 3) {
    case 0: ours = O_RDONLY; break;
    case 1: ours = O_WRONLY; break;
    case 2: ours = O_RDWR; break;
    default: lab_die("open: no such access mode");
  }
  if ((flags & 0x80) != 0) ours |= O_NONBLOCK;
  if ((flags & 0x800) != 0) ours |= O_NOCTTY;
  if ((flags & ~(3 | 0x80 | 0x800 | 0x2000)) != 0) lab_die("open: flags that Solaris 10 does not have, or that nobody needs");
  // LAB_LIST stands in for the exclusion list of /etc.
  const char *list = lab_option("LIST");
  if (list != NULL && lab_equal(path, "/etc/memproxy.conf")) path = list;
  return (int)syscall(SYS_openat, AT_FDCWD, path, ours, 0);
}

int sol_open(const char *path, int flags, ...) {
  NOTE("open %s", path);
  return open_file(path, flags);
}

int sol_close(int file) {
  NOTE("close");
  return (int)syscall(SYS_close, file);
}

ssize_t sol_read(int file, void *to, size_t size) {
  NOTE("read");
  return syscall(SYS_read, file, to, size);
}

ssize_t sol_write(int file, const void *from, size_t size) {
  NOTE("write");
  return syscall(SYS_write, file, from, size);
}

static void put(void *status, size_t at, const void *value, size_t size) { lab_memcpy((char *)status + at, value, size); }

// struct stat (64 bit) and struct stat64 (32 bit), by offset. All that is not set is garbage, as on any stack.
static int get_status(int file, void *status) {
  struct statx got;
  if (syscall(SYS_statx, file, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &got) != 0) return -1;
  const uint32_t mode = got.stx_mode;  // S_IFMT is the same on both
  const int64_t size = (int64_t)got.stx_size;
  const uint64_t inode = 0x123456789aULL;
#ifdef __LP64__
  lab_memset(status, 0x5a, 128);
  put(status, 8, &inode, 8);
  put(status, 16, &mode, 4);
  put(status, 40, &size, 8);
#else
  lab_memset(status, 0x5a, 144);
  put(status, 16, &inode, 8);
  put(status, 24, &mode, 4);
  put(status, 52, &size, 8);
#endif
  return 0;
}

int sol_fstat(int file, void *status) {
  NOTE("fstat");
#ifndef __LP64__
  errno = 79;  // EOVERFLOW: the inode number does not fit
  (void)file, (void)status;
  return -1;
#else
  return get_status(file, status);
#endif
}

char *sol_getcwd(char *to, size_t size) {
  NOTE("getcwd");
  if (to == NULL) lab_die("getcwd(NULL) calls malloc");
  return syscall(SYS_getcwd, to, size) > 0 ? to : NULL;
}

// ---- Mappings.

static void *map(void *at, size_t size, int protection, int flags, int file, long long offset) {
  if ((protection & ~7) != 0) lab_die("mmap: no such protection");
  if ((flags & 3) == 0 || (flags & 3) == 3) lab_die("mmap: neither shared nor private");
  if ((flags & ~(3 | 0x40 | 0x100)) != 0) lab_die("mmap: flags that nobody needs");
  if ((flags & 0x100) == 0 || file != -1 || offset != 0) lab_die("mmap: not anonymous");
  const int ours = ((flags & 3) == 1 ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | ((flags & 0x40) != 0 ? MAP_NORESERVE : 0);
#ifdef SYS_mmap2
  return (void *)syscall(SYS_mmap2, at, size, protection, ours, file, 0);
#else
  return (void *)syscall(SYS_mmap, at, size, protection, ours, file, 0);
#endif
}

void *sol_mmap(void *at, size_t size, int protection, int flags, int file, long offset) {
  NOTE("mmap");
  return map(at, size, protection, flags, file, offset);
}

int sol_munmap(void *at, size_t size) {
  NOTE("munmap");
  return (int)syscall(SYS_munmap, at, size);
}

#ifndef __LP64__
int sol_open64(const char *path, int flags, ...) {
  NOTE("open %s", path);
  return open_file(path, flags);
}

int sol_fstat64(int file, void *status) {
  NOTE("fstat");
  return get_status(file, status);
}

void *sol_mmap64(void *at, size_t size, int protection, int flags, int file, long long offset) {
  NOTE("mmap");
  return map(at, size, protection, flags, file, offset);
}
#endif
