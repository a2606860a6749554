// An allocator in C++ that brings its run time along (-DLIBRARY -shared -static-libstdc++), so that it has operators and a
// new-handler of its own; and a program that replaces plain new and delete and uses the nothrow ones.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>

#ifdef LIBRARY
static char memory[1 << 22];
static std::size_t used;
extern "C" void *malloc(std::size_t size) {
  char *block = memory + __atomic_fetch_add(&used, (size + 31) & ~std::size_t{15}, __ATOMIC_RELAXED);
  *reinterpret_cast<std::size_t *>(block) = size;
  return block + 16;
}
extern "C" void free(void *block) {
  if (block != nullptr && (block < memory || block > memory + sizeof memory)) abort();
}
extern "C" void *realloc(void *block, std::size_t size) {
  char *fresh = static_cast<char *>(malloc(size));
  for (std::size_t i = 0; block != nullptr && i < size; ++i) fresh[i] = static_cast<char *>(block)[i];
  return fresh;
}
extern "C" void *calloc(std::size_t count, std::size_t size) { return malloc(count * size); }
void *operator new(std::size_t size) { return malloc(size); }
void *operator new(std::size_t size, const std::nothrow_t &) noexcept { return malloc(size); }
void operator delete(void *block) noexcept { free(block); }
extern "C" void *handler() { return reinterpret_cast<void *>(std::get_new_handler()); }
#else
void *operator new(std::size_t size) { return std::malloc(size); }
void operator delete(void *block) noexcept { std::free(block); }
void operator delete(void *block, std::size_t) noexcept { std::free(block); }
int main() {
  for (int i = 0; i < 100; ++i) operator delete(new (std::nothrow) int);
  std::puts("ok");
}
#endif
