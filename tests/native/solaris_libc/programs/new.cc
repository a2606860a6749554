// operator new that cannot be served: the exception passes through the library's frames; the new-handler is called first.
#include <cstdint>
#include <cstdio>
#include <new>

static int called;

static void handler() {
  if (++called == 3) std::set_new_handler(nullptr);
}

struct alignas(256) Wide {
  char bytes[256];
};

int main() {
  volatile std::size_t huge = SIZE_MAX / 2 - 1000;
  int caught = 0;
  std::set_new_handler(handler);
  try {
    ::operator new(huge);
  } catch (const std::bad_alloc &) {
    ++caught;
  }
  try {
    new char[huge];
  } catch (const std::bad_alloc &) {
    ++caught;
  }
  if (new (std::nothrow) char[huge] != nullptr) return 4;
  Wide *wide = new Wide[3];
  if (reinterpret_cast<std::uintptr_t>(wide) % 256 != 0) return 5;
  delete[] wide;
  int *plain = new int(7);
  delete plain;
  std::printf("%d calls of the handler, %d exceptions\n", called, caught);
  return 0;
}
