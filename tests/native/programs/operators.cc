// Every replaceable operator new and delete: who serves it, what happens when there is no memory, and a C++ program's life.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

extern "C" const char *owner_of_block(void *(*allocate)(size_t));

#define REQUIRE(condition)                                                \
  do {                                                                    \
    if (!(condition)) {                                                   \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(3);                                                       \
    }                                                                     \
  } while (0)

static void *plain(size_t size) { return operator new(size); }
static void *array(size_t size) { return operator new[](size); }
static void *plain_nothrow(size_t size) { return operator new(size, std::nothrow); }
static void *array_nothrow(size_t size) { return operator new[](size, std::nothrow); }
static const std::align_val_t k256 = static_cast<std::align_val_t>(256);
static void *aligned(size_t size) { return operator new(size, k256); }
static void *array_aligned(size_t size) { return operator new[](size, k256); }
static void *aligned_nothrow(size_t size) { return operator new(size, k256, std::nothrow); }
static void *array_aligned_nothrow(size_t size) { return operator new[](size, k256, std::nothrow); }

static volatile size_t huge = static_cast<size_t>(-1) - (1 << 20);
static int handler_calls;
static void resigning_handler() {
  if (++handler_calls == 3) std::set_new_handler(nullptr);
}
struct Special {};
static void throwing_handler() {
  ++handler_calls;
  throw std::bad_alloc();
}

template <typename Call>
static bool throws_bad_alloc(Call call) {
  try {
    return call() == nullptr && false;
  } catch (const std::bad_alloc &) {
    return true;
  }
}

static void failures() {
  REQUIRE(throws_bad_alloc([] { return operator new(huge); }));
  REQUIRE(throws_bad_alloc([] { return operator new[](huge); }));
  REQUIRE(throws_bad_alloc([] { return operator new(huge, k256); }));
  REQUIRE(operator new(huge, std::nothrow) == nullptr);
  REQUIRE(operator new[](huge, std::nothrow) == nullptr);
  REQUIRE(operator new(huge, k256, std::nothrow) == nullptr);

  std::set_new_handler(resigning_handler);
  handler_calls = 0;
  REQUIRE(throws_bad_alloc([] { return operator new(huge); }));
  REQUIRE(handler_calls == 3);

  std::set_new_handler(throwing_handler);
  handler_calls = 0;
  REQUIRE(throws_bad_alloc([] { return operator new(huge); }));
  REQUIRE(handler_calls == 1);
  REQUIRE(operator new(huge, std::nothrow) == nullptr);
  REQUIRE(handler_calls == 2);
  REQUIRE(operator new(huge, k256, std::nothrow) == nullptr);
  REQUIRE(handler_calls == 3);
  std::set_new_handler(nullptr);
}

static void releases() {
  for (int i = 0; i < 100; ++i) {
    operator delete(operator new(100));
    operator delete(operator new(100), size_t{100});
    operator delete(operator new(100, std::nothrow), std::nothrow);
    operator delete[](operator new[](100));
    operator delete[](operator new[](100), size_t{100});
    operator delete[](operator new[](100, std::nothrow), std::nothrow);
    operator delete(operator new(100, k256), k256);
    operator delete(operator new(100, k256), size_t{100}, k256);
    operator delete(operator new(100, k256, std::nothrow), k256, std::nothrow);
    operator delete[](operator new[](100, k256), k256);
    operator delete[](operator new[](100, k256), size_t{100}, k256);
    operator delete[](operator new[](100, k256, std::nothrow), k256, std::nothrow);
  }
  operator delete(nullptr);
  void *nothing = operator new(0);
  REQUIRE(nothing != nullptr);
  operator delete(nothing);
  for (size_t alignment = 1; alignment <= 65536; alignment *= 2)
    for (size_t size : {size_t{0}, size_t{1}, alignment, alignment * 2 - 1}) {
      void *block = operator new(size, static_cast<std::align_val_t>(alignment));
      REQUIRE(reinterpret_cast<size_t>(block) % alignment == 0);
      std::memset(block, 1, size);
      operator delete(block, static_cast<std::align_val_t>(alignment));
    }
}

static void life() {
  std::map<int, std::string> map;
  for (int i = 0; i < 3000; ++i) map[i] = std::string(static_cast<size_t>(i % 400), 'x');
  std::vector<std::thread> threads;
  std::vector<std::unique_ptr<std::string>> made(64);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t, &made] {
      for (int round = 0; round < 200; ++round)
        for (int i = t; i < 64; i += 4) made[static_cast<size_t>(i)].reset(new std::string(static_cast<size_t>(round * 7), 'y'));
    });
  for (std::thread &thread : threads) thread.join();
  struct alignas(128) Wide {
    char bytes[128];
  };
  std::vector<Wide> wide(100);
  REQUIRE(reinterpret_cast<size_t>(&wide[0]) % 128 == 0);
}

int main() {
  static const struct {
    const char *name;
    void *(*allocate)(size_t);
  } all[] = {{"new", plain},
             {"new[]", array},
             {"new nothrow", plain_nothrow},
             {"new[] nothrow", array_nothrow},
             {"new aligned", aligned},
             {"new[] aligned", array_aligned},
             {"new aligned nothrow", aligned_nothrow},
             {"new[] aligned nothrow", array_aligned_nothrow},
             {"malloc", std::malloc}};
  failures();
  releases();
  life();
  const char *separator = "{";
  for (const auto &way : all) {
    std::printf("%s\"%s\": \"%s\"", separator, way.name, owner_of_block(way.allocate));
    separator = ", ";
  }
  std::puts("}");
}
