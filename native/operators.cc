// The replaceable operators new and delete of C++17, on top of the route's malloc and free.
//
// Compiled with unwind tables, since bad_alloc passes through these frames, but without any exception code of our own: the
// C++ run-time library that can throw is the process's, found when the first request fails.

#include <stddef.h>
#include <string.h>

#include "export.h"
#include "heap.h"
#include "object.h"
#include "platform.h"

extern "C" void abort() __attribute__((noreturn));

namespace std {
enum class align_val_t : size_t;
struct nothrow_t;
}  // namespace std

namespace {

#if defined(__LP64__) || defined(_LP64)
#define SIZE_LETTER "m"
#else
#define SIZE_LETTER "j"
#endif

// A function that some loaded object defines, also one that was opened for its opener alone.
template <typename Function>
Function *run_time_function(const char *name) {
  void *address = platform_public_function(name);
  for (Object object = object_first(); address == nullptr && object != nullptr; object = object_next(object))
    address = object_function(object, name);
  Function *function;
  memcpy(&function, &address, sizeof function);
  return function;
}

typedef void Handler();

Handler *new_handler() {
  Handler *(*get)() = run_time_function<Handler *()>("_ZSt15get_new_handlerv");
  return get == nullptr ? nullptr : get();
}

void *request(size_t size, size_t alignment) {
  if (alignment == 0) {
    void *block = heap_base.malloc(size);
    return block == nullptr && size == 0 ? heap_base.malloc(1) : block;
  }
  return heap_aligned(alignment < sizeof(void *) ? sizeof(void *) : alignment, size == 0 ? 1 : size);
}

// What the standard says for a failed request: call the new-handler and try again, as long as there is one; then throw.
__attribute__((noinline, cold)) void *new_failed(size_t size, size_t alignment) {
  for (;;) {
    void *block = request(size, alignment);
    if (block != nullptr) return block;
    Handler *handler = new_handler();
    if (handler == nullptr) break;
    handler();
  }
  void (*raise)() = run_time_function<void()>("_ZSt17__throw_bad_allocv");
  if (raise != nullptr) raise();
  static const char message[] = "memproxy: operator new failed and the process has no C++ run-time library to throw bad_alloc\n";
  platform_complain(message, sizeof message - 1);
  abort();
}

// The same where no exception may come out. A handler may throw, and only the C++ run-time library's own operator can catch
// that: it calls the throwing operator, which is ours.
__attribute__((noinline, cold)) void *nothrow_new_failed(size_t size, size_t alignment, const std::nothrow_t &tag) {
  void *block = request(size, alignment);
  if (block != nullptr || new_handler() == nullptr) return block;
  const char *name = alignment == 0 ? "_Znw" SIZE_LETTER "RKSt9nothrow_t" : "_Znw" SIZE_LETTER "St11align_val_tRKSt9nothrow_t";
  for (Object object = object_first(); object != nullptr; object = object_next(object)) {
    if (object_function(object, "_ZSt15get_new_handlerv") == nullptr) continue;
    void *address = object_function(object, name);
    if (address == nullptr) continue;
    if (alignment == 0) {
      void *(*plain)(size_t, const std::nothrow_t &);
      memcpy(&plain, &address, sizeof plain);
      return plain(size, tag);
    }
    void *(*aligned)(size_t, size_t, const std::nothrow_t &);
    memcpy(&aligned, &address, sizeof aligned);
    return aligned(size, alignment, tag);
  }
  return nullptr;
}

inline void *allocate(size_t size) {
  void *block = heap_base.malloc(size);
  return MEMPROXY_UNLIKELY(block == nullptr) ? new_failed(size, 0) : block;
}

inline void *allocate_aligned(size_t size, std::align_val_t alignment) {
  void *block = request(size, static_cast<size_t>(alignment));
  return MEMPROXY_UNLIKELY(block == nullptr) ? new_failed(size, static_cast<size_t>(alignment)) : block;
}

inline void *allocate_nothrow(size_t size, const std::nothrow_t &tag) {
  void *block = heap_base.malloc(size);
  return MEMPROXY_UNLIKELY(block == nullptr) ? nothrow_new_failed(size, 0, tag) : block;
}

inline void *allocate_aligned_nothrow(size_t size, std::align_val_t alignment, const std::nothrow_t &tag) {
  void *block = request(size, static_cast<size_t>(alignment));
  return MEMPROXY_UNLIKELY(block == nullptr) ? nothrow_new_failed(size, static_cast<size_t>(alignment), tag) : block;
}

}  // namespace

#define OPERATOR __attribute__((visibility("default")))

OPERATOR void *operator new(size_t size) { return allocate(size); }
OPERATOR void *operator new[](size_t size) { return allocate(size); }
OPERATOR void *operator new(size_t size, const std::nothrow_t &tag) noexcept { return allocate_nothrow(size, tag); }
OPERATOR void *operator new[](size_t size, const std::nothrow_t &tag) noexcept { return allocate_nothrow(size, tag); }
OPERATOR void *operator new(size_t size, std::align_val_t alignment) { return allocate_aligned(size, alignment); }
OPERATOR void *operator new[](size_t size, std::align_val_t alignment) { return allocate_aligned(size, alignment); }
OPERATOR void *operator new(size_t size, std::align_val_t alignment, const std::nothrow_t &tag) noexcept {
  return allocate_aligned_nothrow(size, alignment, tag);
}
OPERATOR void *operator new[](size_t size, std::align_val_t alignment, const std::nothrow_t &tag) noexcept {
  return allocate_aligned_nothrow(size, alignment, tag);
}

OPERATOR void operator delete(void *block) noexcept { heap_base.free(block); }
OPERATOR void operator delete[](void *block) noexcept { heap_base.free(block); }
OPERATOR void operator delete(void *block, const std::nothrow_t &) noexcept { heap_base.free(block); }
OPERATOR void operator delete[](void *block, const std::nothrow_t &) noexcept { heap_base.free(block); }
OPERATOR void operator delete(void *block, size_t) noexcept { heap_base.free(block); }
OPERATOR void operator delete[](void *block, size_t) noexcept { heap_base.free(block); }
OPERATOR void operator delete(void *block, std::align_val_t) noexcept { heap_base.free(block); }
OPERATOR void operator delete[](void *block, std::align_val_t) noexcept { heap_base.free(block); }
OPERATOR void operator delete(void *block, std::align_val_t, const std::nothrow_t &) noexcept { heap_base.free(block); }
OPERATOR void operator delete[](void *block, std::align_val_t, const std::nothrow_t &) noexcept { heap_base.free(block); }
OPERATOR void operator delete(void *block, size_t, std::align_val_t) noexcept { heap_base.free(block); }
OPERATOR void operator delete[](void *block, size_t, std::align_val_t) noexcept { heap_base.free(block); }
