// Replaces a few operators new and delete; all others must be made from them. Each block has a mark in front.
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

static int made, deleted;

static void *mark(std::size_t size) {
  void *place = nullptr;
  if (posix_memalign(&place, 64, size + 64) != 0) throw std::bad_alloc();
  char *block = static_cast<char *>(place);
  *reinterpret_cast<long *>(block) = 0x1234567;
  ++made;
  return block + 64;
}
static void unmark(void *block) {
  if (block == nullptr) return;
  char *start = static_cast<char *>(block) - 64;
  if (*reinterpret_cast<long *>(start) != 0x1234567) std::abort();
  *reinterpret_cast<long *>(start) = 0;
  ++deleted;
  std::free(start);
}

static bool refuse;
void *operator new(std::size_t size) {
  if (refuse) throw std::bad_alloc();
  return mark(size);
}
void operator delete(void *block) noexcept { unmark(block); }
#ifdef ALIGNED
void *operator new(std::size_t size, std::align_val_t) { return mark(size); }
void operator delete(void *block, std::align_val_t) noexcept { unmark(block); }
#endif
#ifdef ARRAYS
static int arrays;
void *operator new[](std::size_t size) {
  ++arrays;
  return mark(size);
}
void operator delete[](void *block) noexcept {
  --arrays;
  unmark(block);
}
#endif

int main() {
  ::operator delete(::operator new(10), std::size_t(10));
  ::operator delete(::operator new(10), std::nothrow);
  ::operator delete(::operator new(10, std::nothrow));
  ::operator delete[](::operator new[](10));
  ::operator delete[](::operator new[](10), std::size_t(10));
  ::operator delete[](::operator new[](10, std::nothrow), std::nothrow);
  int expected = 6;
#ifdef ALIGNED
  const std::align_val_t alignment{32};
  ::operator delete(::operator new(10, alignment), std::size_t(10), alignment);
  ::operator delete(::operator new(10, alignment, std::nothrow), alignment, std::nothrow);
  ::operator delete[](::operator new[](10, alignment), alignment);
  ::operator delete[](::operator new[](10, alignment), std::size_t(10), alignment);
  ::operator delete[](::operator new[](10, alignment, std::nothrow), alignment, std::nothrow);
  expected += 5;
#endif
  if (made != expected || deleted != expected) return std::printf("%d made, %d deleted\n", made, deleted), 1;
#ifdef ARRAYS
  if (arrays != 0) return std::puts("arrays"), 1;
#endif
  refuse = true;
  if (::operator new(10, std::nothrow) != nullptr) return std::puts("not refused"), 1;
  refuse = false;
  { std::vector<std::string> strings(100, std::string(100, 'x')); }
  std::puts(made == deleted ? "ok" : "unequal");
}
