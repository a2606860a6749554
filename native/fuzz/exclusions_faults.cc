// Fuzz target: exclusions_lookup on a kernel that we play: short and interrupted reads, errors, a file that grows or shrinks.
//
// Whatever happens, the answer is that of the lines that were delivered whole. Every fault is tried on every input, at a place that depends on the input.
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "exclusions_reference.h"

static long played(long number, ...);
#define syscall played
#include "../exclusions.cc"
#undef syscall

// ---- The kernel.

namespace {

enum Fault { kNone, kGrown, kShrunk, kReadError, kStatError, kNoRegularFile, kOpenError, kFaults };

struct Kernel {
  std::string content;   // what read gives, in the end
  size_t stated;         // the size that fstat tells
  size_t broken;         // where read fails
  Fault fault;
  unsigned random;
  size_t at;
  int open_files;
  size_t reads;
} kernel;

unsigned next_random() { return kernel.random = kernel.random * 1103515245u + 12345u, kernel.random >> 16; }

long fail(int error) {
  errno = error;
  return -1;
}

const int kFile = 1000;

long played_open() {
  if (kernel.fault == kOpenError) return fail(EACCES);
  ++kernel.open_files;
  return kFile;
}

long played_close(int file) {
  demand(file == kFile && kernel.open_files == 1, "closes what is not open");
  --kernel.open_files;
  return fail(EIO);
}

long played_fstat(int file, struct stat *status) {
  demand(file == kFile && kernel.open_files == 1, "asks about what is not open");
  if (kernel.fault == kStatError) return fail(EOVERFLOW);
  memset(status, 0, sizeof *status);
  status->st_mode = kernel.fault == kNoRegularFile ? S_IFIFO | 0644 : S_IFREG | 0644;
  status->st_size = static_cast<off_t>(kernel.stated);
  return 0;
}

long played_read(int file, char *to, size_t wanted) {
  demand(file == kFile && kernel.open_files == 1, "reads what is not open");
  demand(kernel.fault != kNoRegularFile, "reads what is no regular file");
  demand(kernel.reads++ <= 100 + 4 * kernel.content.size(), "reads without an end");
  if (next_random() % 8 == 0) return fail(EINTR);
  if (kernel.at >= kernel.broken) return fail(EIO);
  size_t size = std::min(std::min(kernel.content.size(), kernel.broken) - kernel.at, wanted);
  if (size > 1 && next_random() % 4 == 0) size = 1 + next_random() % size;
  memcpy(to, kernel.content.data() + kernel.at, size);
  kernel.at += size;
  return static_cast<long>(size);
}

}  // namespace

static long played(long number, ...) {
  va_list arguments;
  va_start(arguments, number);
  long result = -1;
  switch (number) {
    case SYS_openat: result = played_open(); break;
    case SYS_close: result = played_close(va_arg(arguments, int)); break;
    case SYS_getcwd: result = fail(ENOENT); break;
#ifdef SYS_fstat64
    case SYS_fstat64:
#else
    case SYS_fstat:
#endif
    {
      const int file = va_arg(arguments, int);
      result = played_fstat(file, va_arg(arguments, struct stat *));
      break;
    }
    case SYS_read: {
      const int file = va_arg(arguments, int);
      char *const to = static_cast<char *>(va_arg(arguments, void *));
      result = played_read(file, to, va_arg(arguments, size_t));
      break;
    }
#ifdef SYS__llseek
    case SYS__llseek:
#endif
    case SYS_lseek: result = fail(EINVAL); break;  // no file system that knows of holes
    default: demand(false, "an unexpected system call");
  }
  va_end(arguments);
  return result;
}

static void try_fault(const Input &input, const std::string &name, Fault fault, size_t place) {
  const std::string &list = input.list;
  kernel = Kernel();
  kernel.content = list;
  kernel.fault = fault;
  kernel.stated = fault == kGrown ? place : list.size();
  kernel.broken = fault == kReadError ? place : SIZE_MAX;
  if (fault == kShrunk) kernel.content.resize(place);
  kernel.random = static_cast<unsigned>(place) + list.size();

  Answer got = {false, Route::kSystem, 0};
  errno = 4242;
  got.found = exclusions_lookup("/list", input.name.c_str(), &got.route, &got.line);
  demand(errno == 4242, "errno has changed");
  demand(kernel.open_files == 0, "a descriptor is left open");

  std::string seen;
  if (fault == kNone) seen = list;
  if (fault == kGrown || fault == kShrunk || fault == kReadError) {
    seen = list.substr(0, place);
    // A last line without an end counts only if the file ends with it.
    const bool ends = fault == kGrown ? place == list.size() || list[place] == '\n' : fault == kShrunk && place == list.size();
    if (!ends) seen.erase(seen.rfind('\n') + 1);
  }
  demand(reference(seen, name) == got, "another answer than the whole lines give");
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const Input input(data, size);
  std::string name = input.name.size() > kMaxName ? input.name.substr(input.name.rfind('/') + 1) : input.name;
  if (name.size() > kMaxName) name = "";
  if (name[0] != '/') name = name.substr(name.rfind('/') + 1);
  for (int fault = kNone; fault < kFaults; ++fault) {
    const size_t place = std::hash<std::string>()(input.list) / 7 * (fault + 1) % (input.list.size() + 1);
    try_fault(input, name, static_cast<Fault>(fault), place);
  }
  return 0;
}
