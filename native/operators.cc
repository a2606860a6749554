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
#include "route.h"

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
  // dlsym would replace what the program's next dlerror tells: only if there is no list.
  void *address = object_first() == nullptr ? platform_public_function(name) : nullptr;
  for (Object object = object_first(); address == nullptr && object != nullptr; object = object_next(object))
    address = object_function(object, name);
  Function *function;
  memcpy(&function, &address, sizeof function);
  return function;
}

// The same of the C++ run-time library alone, whose own operators stand behind ours.
template <typename Function>
Function *cxx_function(const char *name) {
  void *address = nullptr;
  for (Object object = object_first(); address == nullptr && object != nullptr; object = object_next(object))
    if (object_function(object, "_ZSt15get_new_handlerv") != nullptr) address = object_function(object, name);
  Function *function;
  memcpy(&function, &address, sizeof function);
  return function;
}

const char kNothrow[] = "_Znw" SIZE_LETTER "RKSt9nothrow_t";
const char kNothrowArray[] = "_Zna" SIZE_LETTER "RKSt9nothrow_t";
const char kNothrowAligned[] = "_Znw" SIZE_LETTER "St11align_val_tRKSt9nothrow_t";
const char kNothrowAlignedArray[] = "_Zna" SIZE_LETTER "St11align_val_tRKSt9nothrow_t";

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
  if (alignment == 0) {
    void *(*plain)(size_t, const std::nothrow_t &) = cxx_function<void *(size_t, const std::nothrow_t &)>(kNothrow);
    return plain == nullptr ? nullptr : plain(size, tag);
  }
  void *(*aligned)(size_t, size_t, const std::nothrow_t &) =
      cxx_function<void *(size_t, size_t, const std::nothrow_t &)>(kNothrowAligned);
  return aligned == nullptr ? nullptr : aligned(size, alignment, tag);
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

// ---- A program may replace a few operators and leave the rest, which are then made from its own: so the standard says of the
// default versions. Ours go by the public names as well, unless it is known that these are ours.

bool maybe_replaced = true;

const char *const kReplaceable[] = {
    "_Znw" SIZE_LETTER, "_Zna" SIZE_LETTER, "_Znw" SIZE_LETTER "St11align_val_t", "_Zna" SIZE_LETTER "St11align_val_t",
    "_ZdlPv",           "_ZdaPv",           "_ZdlPvSt11align_val_t",              "_ZdaPvSt11align_val_t",
};

inline bool direct() { return !MEMPROXY_UNLIKELY(__atomic_load_n(&maybe_replaced, __ATOMIC_RELAXED)); }

#define SLOW __attribute__((noinline, cold))

SLOW void *public_new(size_t size) { return ::operator new(size); }
SLOW void *public_new(size_t size, std::align_val_t alignment) { return ::operator new(size, alignment); }
SLOW void public_delete(void *block) { ::operator delete(block); }
SLOW void public_delete_array(void *block) { ::operator delete[](block); }
SLOW void public_delete(void *block, std::align_val_t alignment) { ::operator delete(block, alignment); }
SLOW void public_delete_array(void *block, std::align_val_t alignment) { ::operator delete[](block, alignment); }

// Where an exception must be caught only the C++ run-time library's own nothrow operator can do it.
SLOW void *public_nothrow_new(const char *name, size_t size, const std::nothrow_t &tag) {
  void *(*function)(size_t, const std::nothrow_t &) = cxx_function<void *(size_t, const std::nothrow_t &)>(name);
  return function == nullptr ? allocate_nothrow(size, tag) : function(size, tag);
}

SLOW void *public_nothrow_new(const char *name, size_t size, std::align_val_t alignment, const std::nothrow_t &tag) {
  typedef void *Function(size_t, std::align_val_t, const std::nothrow_t &);
  Function *function = cxx_function<Function>(name);
  return function == nullptr ? allocate_aligned_nothrow(size, alignment, tag) : function(size, alignment, tag);
}

}  // namespace

void operators_find_replaced(Object self) {
  for (Object object = object_first(); object != self; object = object_next(object))
    for (size_t i = 0; i < sizeof kReplaceable / sizeof *kReplaceable; ++i)
      if (object == nullptr || object_function(object, kReplaceable[i]) != nullptr) return;
  __atomic_store_n(&maybe_replaced, false, __ATOMIC_RELAXED);
}

#define OPERATOR __attribute__((visibility("default")))
// Those that are called above: not to be inlined there.
#define REPLACEABLE __attribute__((visibility("default"), noinline))

REPLACEABLE void *operator new(size_t size) { return allocate(size); }
REPLACEABLE void *operator new[](size_t size) { return direct() ? allocate(size) : public_new(size); }
OPERATOR void *operator new(size_t size, const std::nothrow_t &tag) noexcept {
  return direct() ? allocate_nothrow(size, tag) : public_nothrow_new(kNothrow, size, tag);
}
OPERATOR void *operator new[](size_t size, const std::nothrow_t &tag) noexcept {
  return direct() ? allocate_nothrow(size, tag) : public_nothrow_new(kNothrowArray, size, tag);
}
REPLACEABLE void *operator new(size_t size, std::align_val_t alignment) { return allocate_aligned(size, alignment); }
REPLACEABLE void *operator new[](size_t size, std::align_val_t alignment) {
  return direct() ? allocate_aligned(size, alignment) : public_new(size, alignment);
}
OPERATOR void *operator new(size_t size, std::align_val_t alignment, const std::nothrow_t &tag) noexcept {
  return direct() ? allocate_aligned_nothrow(size, alignment, tag)
                  : public_nothrow_new(kNothrowAligned, size, alignment, tag);
}
OPERATOR void *operator new[](size_t size, std::align_val_t alignment, const std::nothrow_t &tag) noexcept {
  return direct() ? allocate_aligned_nothrow(size, alignment, tag)
                  : public_nothrow_new(kNothrowAlignedArray, size, alignment, tag);
}

REPLACEABLE void operator delete(void *block) noexcept { heap_base.free(block); }
REPLACEABLE void operator delete[](void *block) noexcept { direct() ? heap_base.free(block) : public_delete(block); }
OPERATOR void operator delete(void *block, const std::nothrow_t &) noexcept {
  direct() ? heap_base.free(block) : public_delete(block);
}
OPERATOR void operator delete[](void *block, const std::nothrow_t &) noexcept {
  direct() ? heap_base.free(block) : public_delete_array(block);
}
OPERATOR void operator delete(void *block, size_t) noexcept {
  direct() ? heap_base.free(block) : public_delete(block);
}
OPERATOR void operator delete[](void *block, size_t) noexcept {
  direct() ? heap_base.free(block) : public_delete_array(block);
}
REPLACEABLE void operator delete(void *block, std::align_val_t) noexcept { heap_base.free(block); }
REPLACEABLE void operator delete[](void *block, std::align_val_t alignment) noexcept {
  direct() ? heap_base.free(block) : public_delete(block, alignment);
}
OPERATOR void operator delete(void *block, std::align_val_t alignment, const std::nothrow_t &) noexcept {
  direct() ? heap_base.free(block) : public_delete(block, alignment);
}
OPERATOR void operator delete[](void *block, std::align_val_t alignment, const std::nothrow_t &) noexcept {
  direct() ? heap_base.free(block) : public_delete_array(block, alignment);
}
OPERATOR void operator delete(void *block, size_t, std::align_val_t alignment) noexcept {
  direct() ? heap_base.free(block) : public_delete(block, alignment);
}
OPERATOR void operator delete[](void *block, size_t, std::align_val_t alignment) noexcept {
  direct() ? heap_base.free(block) : public_delete_array(block, alignment);
}
