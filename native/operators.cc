// The replaceable operators new and delete of C++17, on top of the route's malloc and free.
//
// Compiled with unwind tables, since bad_alloc passes through these frames, but without any exception code of our own: the
// C++ run-time library that can throw is the process's, found when the first request fails.

#include <stddef.h>
#include <stdint.h>

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

// What is needed of the C++ run-time library when a request fails, and of its operators, which stand behind ours.
enum CxxFunction { kGetNewHandler, kThrowBadAlloc, kNothrow, kNothrowArray, kNothrowAligned, kNothrowAlignedArray, kCxxFunctions };
const char *const kCxxNames[kCxxFunctions] = {
    "_ZSt15get_new_handlerv",
    "_ZSt17__throw_bad_allocv",
    "_Znw" SIZE_LETTER "RKSt9nothrow_t",
    "_Zna" SIZE_LETTER "RKSt9nothrow_t",
    "_Znw" SIZE_LETTER "St11align_val_tRKSt9nothrow_t",
    "_Zna" SIZE_LETTER "St11align_val_tRKSt9nothrow_t",
};

// As found at the decision; later if the library was opened later.
void *cxx_functions[kCxxFunctions];

template <typename Function>
Function *cxx_function(CxxFunction which) {
  void *address = __atomic_load_n(&cxx_functions[which], __ATOMIC_ACQUIRE);
  if (address == nullptr) address = object_function_anywhere(kCxxNames[which], kCxxNames[kGetNewHandler]);
  // dlsym would replace what the program's next dlerror tells. What it finds may be ours, or an allocator's: no operator, then.
  if (address == nullptr && which <= kThrowBadAlloc) address = platform_public_function(kCxxNames[which]);
  Function *function;
  __builtin_memcpy(&function, &address, sizeof function);
  return function;
}

typedef void Handler();

Handler *new_handler() {
  Handler *(*get)() = cxx_function<Handler *()>(kGetNewHandler);
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
  void (*raise)() = cxx_function<void()>(kThrowBadAlloc);
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

// ---- Whose operators are they?
//
// Ours, unless an object ahead of us replaces some: the others are then made from these, as the C++ standard says of the default
// versions, by the public names. Or unless a library of the program's behind us, no allocator and no C++ run time, has operators
// of its own, which the process would call without us (a garbage collector's, say): then each is what stands behind us.

enum Whose : uint32_t { kOurs, kReplaced, kTheirs, kUnknown };
uint32_t whose = kUnknown;

enum Operator {
  kNew, kNewArray, kNewAligned, kNewArrayAligned, kDelete, kDeleteArray, kDeleteAligned, kDeleteArrayAligned,
  kNewNothrow, kNewArrayNothrow, kNewAlignedNothrow, kNewArrayAlignedNothrow,
  kDeleteNothrow, kDeleteArrayNothrow, kDeleteAlignedNothrow, kDeleteArrayAlignedNothrow,
  kDeleteSized, kDeleteArraySized, kDeleteSizedAligned, kDeleteArraySizedAligned, kOperators
};
const unsigned kReplaceable = kDeleteArrayAligned + 1;  // the others are made from these
const char *const kOperatorNames[kOperators] = {
    "_Znw" SIZE_LETTER,
    "_Zna" SIZE_LETTER,
    "_Znw" SIZE_LETTER "St11align_val_t",
    "_Zna" SIZE_LETTER "St11align_val_t",
    "_ZdlPv",
    "_ZdaPv",
    "_ZdlPvSt11align_val_t",
    "_ZdaPvSt11align_val_t",
    "_Znw" SIZE_LETTER "RKSt9nothrow_t",
    "_Zna" SIZE_LETTER "RKSt9nothrow_t",
    "_Znw" SIZE_LETTER "St11align_val_tRKSt9nothrow_t",
    "_Zna" SIZE_LETTER "St11align_val_tRKSt9nothrow_t",
    "_ZdlPvRKSt9nothrow_t",
    "_ZdaPvRKSt9nothrow_t",
    "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t",
    "_ZdlPv" SIZE_LETTER,
    "_ZdaPv" SIZE_LETTER,
    "_ZdlPv" SIZE_LETTER "St11align_val_t",
    "_ZdaPv" SIZE_LETTER "St11align_val_t",
};

void *their_operators[kOperators];

inline uint32_t whose_now() { return __atomic_load_n(&whose, __ATOMIC_ACQUIRE); }
inline bool direct() { return !MEMPROXY_UNLIKELY(whose_now() != kOurs); }

#define SLOW __attribute__((noinline, cold))

SLOW void *their_operator(Operator which) {
  if (whose_now() == kUnknown) route_ready();
  return whose_now() == kTheirs ? their_operators[which] : nullptr;
}

template <typename Function>
inline Function *theirs(Operator which) {
  void *address = MEMPROXY_UNLIKELY(whose_now() >= kTheirs) ? their_operator(which) : nullptr;
  Function *function;
  __builtin_memcpy(&function, &address, sizeof function);
  return function;
}

SLOW void *public_new(size_t size) { return ::operator new(size); }
SLOW void *public_new(size_t size, std::align_val_t alignment) { return ::operator new(size, alignment); }
SLOW void public_delete(void *block) { ::operator delete(block); }
SLOW void public_delete_array(void *block) { ::operator delete[](block); }
SLOW void public_delete(void *block, std::align_val_t alignment) { ::operator delete(block, alignment); }
SLOW void public_delete_array(void *block, std::align_val_t alignment) { ::operator delete[](block, alignment); }

// Where an exception must be caught only the C++ run-time library's own nothrow operator can do it.
SLOW void *public_nothrow_new(CxxFunction which, size_t size, const std::nothrow_t &tag) {
  void *(*function)(size_t, const std::nothrow_t &) = cxx_function<void *(size_t, const std::nothrow_t &)>(which);
  return function == nullptr ? allocate_nothrow(size, tag) : function(size, tag);
}

SLOW void *public_nothrow_new(CxxFunction which, size_t size, std::align_val_t alignment, const std::nothrow_t &tag) {
  typedef void *Function(size_t, std::align_val_t, const std::nothrow_t &);
  Function *function = cxx_function<Function>(which);
  return function == nullptr ? allocate_aligned_nothrow(size, alignment, tag) : function(size, alignment, tag);
}

bool is_cxx_library(Object object) {
  return object_function(object, kCxxNames[kGetNewHandler]) != nullptr && !object_has_heap(object);
}

// The first object behind us that defines it, of those that would be there without allocators.
Object first_behind(Object self, Object custom, const char *name) {
  for (Object object = object_next(self); object != nullptr; object = object_next(object)) {
    if (object == custom || object_function(object, name) == nullptr) continue;
    if (!object_has_heap(object) || object_is_needed(object)) return object;
  }
  return nullptr;
}

Whose find_whose(Object self, Object custom) {
  for (Object object = object_first(); object != self; object = object_next(object))
    for (unsigned i = 0; i < kReplaceable; ++i)
      if (object == nullptr || object_function(object, kOperatorNames[i]) != nullptr) return kReplaced;
  for (unsigned i = 0; i < kReplaceable; ++i) {
    const Object object = first_behind(self, custom, kOperatorNames[i]);
    if (object != nullptr && !is_cxx_library(object) && !object_has_heap(object)) return kTheirs;
  }
  return kOurs;
}

}  // namespace

void operators_find(Object self, Object custom) {
  for (Object object = object_first(); object != nullptr; object = object_next(object)) {
    if (!is_cxx_library(object)) continue;
    for (unsigned i = 0; i < kCxxFunctions; ++i)
      __atomic_store_n(&cxx_functions[i], object_function(object, kCxxNames[i]), __ATOMIC_RELEASE);
    break;
  }
  const Whose found = find_whose(self, custom);
  for (unsigned i = 0; found == kTheirs && i < kOperators; ++i) {
    const Object object = first_behind(self, custom, kOperatorNames[i]);
    if (object != nullptr) their_operators[i] = object_function(object, kOperatorNames[i]);
  }
  __atomic_store_n(&whose, static_cast<uint32_t>(found), __ATOMIC_RELEASE);
}

#define OPERATOR __attribute__((visibility("default")))
// Those that are called above: not to be inlined there.
#define REPLACEABLE __attribute__((visibility("default"), noinline))

#define THEIRS(which, type, ...) \
  if (auto *const function = theirs<type>(which)) return function(__VA_ARGS__)

typedef void *New(size_t);
typedef void *NewNothrow(size_t, const std::nothrow_t &);
typedef void *NewAligned(size_t, std::align_val_t);
typedef void *NewAlignedNothrow(size_t, std::align_val_t, const std::nothrow_t &);
typedef void Delete(void *);
typedef void DeleteNothrow(void *, const std::nothrow_t &);
typedef void DeleteSized(void *, size_t);
typedef void DeleteAligned(void *, std::align_val_t);
typedef void DeleteAlignedNothrow(void *, std::align_val_t, const std::nothrow_t &);
typedef void DeleteSizedAligned(void *, size_t, std::align_val_t);

REPLACEABLE void *operator new(size_t size) {
  THEIRS(kNew, New, size);
  return allocate(size);
}
REPLACEABLE void *operator new[](size_t size) {
  THEIRS(kNewArray, New, size);
  return direct() ? allocate(size) : public_new(size);
}
OPERATOR void *operator new(size_t size, const std::nothrow_t &tag) noexcept {
  THEIRS(kNewNothrow, NewNothrow, size, tag);
  return direct() ? allocate_nothrow(size, tag) : public_nothrow_new(kNothrow, size, tag);
}
OPERATOR void *operator new[](size_t size, const std::nothrow_t &tag) noexcept {
  THEIRS(kNewArrayNothrow, NewNothrow, size, tag);
  return direct() ? allocate_nothrow(size, tag) : public_nothrow_new(kNothrowArray, size, tag);
}
REPLACEABLE void *operator new(size_t size, std::align_val_t alignment) {
  THEIRS(kNewAligned, NewAligned, size, alignment);
  return allocate_aligned(size, alignment);
}
REPLACEABLE void *operator new[](size_t size, std::align_val_t alignment) {
  THEIRS(kNewArrayAligned, NewAligned, size, alignment);
  return direct() ? allocate_aligned(size, alignment) : public_new(size, alignment);
}
OPERATOR void *operator new(size_t size, std::align_val_t alignment, const std::nothrow_t &tag) noexcept {
  THEIRS(kNewAlignedNothrow, NewAlignedNothrow, size, alignment, tag);
  return direct() ? allocate_aligned_nothrow(size, alignment, tag)
                  : public_nothrow_new(kNothrowAligned, size, alignment, tag);
}
OPERATOR void *operator new[](size_t size, std::align_val_t alignment, const std::nothrow_t &tag) noexcept {
  THEIRS(kNewArrayAlignedNothrow, NewAlignedNothrow, size, alignment, tag);
  return direct() ? allocate_aligned_nothrow(size, alignment, tag)
                  : public_nothrow_new(kNothrowAlignedArray, size, alignment, tag);
}

REPLACEABLE void operator delete(void *block) noexcept {
  THEIRS(kDelete, Delete, block);
  heap_base.free(block);
}
REPLACEABLE void operator delete[](void *block) noexcept {
  THEIRS(kDeleteArray, Delete, block);
  direct() ? heap_base.free(block) : public_delete(block);
}
OPERATOR void operator delete(void *block, const std::nothrow_t &tag) noexcept {
  THEIRS(kDeleteNothrow, DeleteNothrow, block, tag);
  direct() ? heap_base.free(block) : public_delete(block);
}
OPERATOR void operator delete[](void *block, const std::nothrow_t &tag) noexcept {
  THEIRS(kDeleteArrayNothrow, DeleteNothrow, block, tag);
  direct() ? heap_base.free(block) : public_delete_array(block);
}
OPERATOR void operator delete(void *block, size_t size) noexcept {
  THEIRS(kDeleteSized, DeleteSized, block, size);
  direct() ? heap_base.free(block) : public_delete(block);
}
OPERATOR void operator delete[](void *block, size_t size) noexcept {
  THEIRS(kDeleteArraySized, DeleteSized, block, size);
  direct() ? heap_base.free(block) : public_delete_array(block);
}
REPLACEABLE void operator delete(void *block, std::align_val_t alignment) noexcept {
  THEIRS(kDeleteAligned, DeleteAligned, block, alignment);
  heap_base.free(block);
}
REPLACEABLE void operator delete[](void *block, std::align_val_t alignment) noexcept {
  THEIRS(kDeleteArrayAligned, DeleteAligned, block, alignment);
  direct() ? heap_base.free(block) : public_delete(block, alignment);
}
OPERATOR void operator delete(void *block, std::align_val_t alignment, const std::nothrow_t &tag) noexcept {
  THEIRS(kDeleteAlignedNothrow, DeleteAlignedNothrow, block, alignment, tag);
  direct() ? heap_base.free(block) : public_delete(block, alignment);
}
OPERATOR void operator delete[](void *block, std::align_val_t alignment, const std::nothrow_t &tag) noexcept {
  THEIRS(kDeleteArrayAlignedNothrow, DeleteAlignedNothrow, block, alignment, tag);
  direct() ? heap_base.free(block) : public_delete_array(block, alignment);
}
OPERATOR void operator delete(void *block, size_t size, std::align_val_t alignment) noexcept {
  THEIRS(kDeleteSizedAligned, DeleteSizedAligned, block, size, alignment);
  direct() ? heap_base.free(block) : public_delete(block, alignment);
}
OPERATOR void operator delete[](void *block, size_t size, std::align_val_t alignment) noexcept {
  THEIRS(kDeleteArraySizedAligned, DeleteSizedAligned, block, size, alignment);
  direct() ? heap_base.free(block) : public_delete_array(block, alignment);
}
