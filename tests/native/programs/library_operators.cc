// A library whose operators new and delete put a header in front of what malloc gives (-DLIBRARY -shared), and a program that
// takes from one what the other made.
#include <cstdio>
#include <cstdlib>
#include <new>

int *make();

#ifdef LIBRARY
void *operator new(std::size_t size) {
  char *block = static_cast<char *>(std::malloc(size + 16));
  if (block == nullptr) throw std::bad_alloc();
  return block + 16;
}
void operator delete(void *block) noexcept {
  if (block != nullptr) std::free(static_cast<char *>(block) - 16);
}
void operator delete(void *block, std::size_t) noexcept { operator delete(block); }
int *make() { return new int(7); }
#else
int main() {
  int *one = make();
  const bool right = *one == 7;
  delete one;
  delete new int;
  delete[] new int[100];
  delete new (std::nothrow) int;
  std::puts(right ? "ok" : "wrong");
}
#endif
