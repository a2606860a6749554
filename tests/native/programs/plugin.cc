// A C++ plugin with statics, exceptions, and blocks that change sides: the host frees what plugin_make() gives, plugin_take()
// frees what the host allocated. -DOWN_OPERATORS: with an operator new that puts a word in front of each block.
// -DOWN_MALLOC: with a malloc of its own.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef OWN_OPERATORS
void *operator new(std::size_t size) {
  std::uint64_t *block = static_cast<std::uint64_t *>(std::malloc(size + 16));
  if (block == nullptr) throw std::bad_alloc();
  block[0] = 0x1234567890abcdef;
  return block + 2;
}
void operator delete(void *block) noexcept {
  if (block == nullptr) return;
  std::uint64_t *start = static_cast<std::uint64_t *>(block) - 2;
  if (*start != 0x1234567890abcdef) std::abort();
  std::free(start);
}
void operator delete(void *block, std::size_t) noexcept { operator delete(block); }
#endif

#ifdef OWN_MALLOC
namespace {
alignas(16) char heap[1 << 20];
std::size_t used;
}  // namespace
extern "C" void *malloc(std::size_t size) {
  if (used + size + 32 > sizeof heap) return nullptr;
  char *block = heap + used + 16;
  used += (size + 31) & ~std::size_t{15};
  return block;
}
extern "C" void free(void *block) {
  if (block != nullptr && (block < heap || block >= heap + sizeof heap)) std::abort();
}
extern "C" void *realloc(void *block, std::size_t size) {
  void *fresh = malloc(size);
  if (block != nullptr && fresh != nullptr) std::memcpy(fresh, block, size);
  return fresh;
}
extern "C" void *calloc(std::size_t count, std::size_t size) { return std::memset(malloc(count * size), 0, count * size); }
#endif

static std::vector<std::string> *volatile names;
static struct Static {
  std::vector<std::string> list{std::string(100, 'a'), std::string(1000, 'b')};
  ~Static() { list.push_back(std::string(5000, 'c')); }
} at_start;

extern "C" int plugin_work(void) {
  names = new std::vector<std::string>();
  for (int i = 0; i < 50; ++i) names->push_back(at_start.list[0] + std::to_string(i));
  int caught = 0;
  try {
    throw std::runtime_error((*names)[7]);
  } catch (const std::exception &error) {
    caught += std::strcmp(error.what(), (*names)[7].c_str()) == 0;
  }
  try {
    static volatile std::size_t huge = SIZE_MAX - 8192;
    operator delete(operator new(huge));
  } catch (const std::bad_alloc &) {
    ++caught;
  }
  delete names;
  delete[] new long[100];
  delete new (std::nothrow) std::string(300, 'd');
  return caught == 2 ? 0 : 1;
}

extern "C" void *plugin_make(std::size_t size) { return std::memset(std::malloc(size), 'p', size); }
extern "C" void plugin_take(void *block) { std::free(block); }
