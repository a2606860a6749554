// Takes all the address space that RLIMIT_AS or RLIMIT_DATA leaves it, block by block, and checks how each function of the
// family says that there is no more; then gives all back and works on. The argument: the limit's name and its MiB.
#include <malloc.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#define REQUIRE(condition)                                                                     \
  do {                                                                                         \
    if (!(condition)) {                                                                        \
      std::fprintf(stderr, "line %d: not so: %s (errno %d)\n", __LINE__, #condition, errno); \
      std::_Exit(3);                                                                           \
    }                                                                                          \
  } while (0)

extern "C" void *reallocarray(void *, std::size_t, std::size_t) noexcept;

static void *kept[100000];
static std::size_t number;
static int called;

static void handler() {
  ++called;
  std::set_new_handler(nullptr);
}

static void fails_everywhere(std::size_t size) {
  void *block = &block;
  errno = 0;
  REQUIRE(std::malloc(size) == nullptr && errno == ENOMEM);
  errno = 0;
  REQUIRE(std::calloc(1, size) == nullptr && errno == ENOMEM);
  errno = 0;
  REQUIRE(std::realloc(nullptr, size) == nullptr && errno == ENOMEM);
  errno = 0;
  REQUIRE(aligned_alloc(64, size) == nullptr && errno == ENOMEM);
  errno = 0;
  REQUIRE(memalign(4096, size) == nullptr && errno == ENOMEM);
  errno = 0;
  REQUIRE(valloc(size) == nullptr && errno == ENOMEM);
  errno = 0;
  REQUIRE(reallocarray(nullptr, 1, size) == nullptr && errno == ENOMEM);
  errno = 0;
  REQUIRE(posix_memalign(&block, 64, size) == ENOMEM);
  REQUIRE(::operator new(size, std::nothrow) == nullptr);
  REQUIRE(::operator new(size, std::align_val_t(256), std::nothrow) == nullptr);
  int caught = 0;
  try {
    kept[0] = ::operator new(size);
  } catch (const std::bad_alloc &) {
    ++caught;
  }
  try {
    kept[0] = ::operator new(size, std::align_val_t(64));
  } catch (const std::bad_alloc &) {
    ++caught;
  }
  called = 0;
  std::set_new_handler(handler);
  try {
    kept[0] = ::operator new[](size);
  } catch (const std::bad_alloc &) {
    ++caught;
  }
  REQUIRE(caught == 3 && called == 1);
  // A block that cannot grow stays as it is.
  char *small = static_cast<char *>(kept[1]);
  std::memset(small, 'k', 1000);
  errno = 0;
  REQUIRE(std::realloc(small, size) == nullptr && errno == ENOMEM);
  REQUIRE(small[0] == 'k' && small[999] == 'k');
}

int main(int, char **argv) {
  std::string *text = new std::string(100, 't');
  rlimit limit;
  const int which = argv[1][0] == 'd' ? RLIMIT_DATA : RLIMIT_AS;
  limit.rlim_cur = limit.rlim_max = static_cast<rlim_t>(std::atoi(argv[2])) << 20;
  REQUIRE(setrlimit(which, &limit) == 0);
  for (std::size_t size = 4 << 20; size >= 1024; size /= 4)
    while (number < 100000 && (kept[number] = std::malloc(size)) != nullptr) {
      std::memset(kept[number], 'x', 64);
      ++number;
    }
  const std::size_t most = number;
  REQUIRE(most > 10 && most < 100000);
  fails_everywhere(16 << 20);
  fails_everywhere(SIZE_MAX / 2 + 1);
  fails_everywhere(SIZE_MAX - 100);
  while (number > 0) std::free(kept[--number]);
  *text += std::string(100000, 'u');
  REQUIRE(text->size() == 100100);
  delete text;
  return std::puts("ok") < 0;
}
