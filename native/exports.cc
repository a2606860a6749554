// malloc and its relatives, as programs call them.
//
// The hot ones are one call through a table. There is no guard against re-entrance and no lock: libc's calloc and memalign
// call the public malloc, which must give them a block of libc's own (Solaris: they edit the word in front of it).
// A failure always sets errno, whatever the allocator did. Headers that declare these functions are not included: their
// exception specifications and attributes differ between systems.

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bootstrap.h"
#include "export.h"
#include "generic.h"
#include "platform.h"
#include "route.h"

namespace {

// Asked for no bytes, malloc may answer with a null pointer; programs take that for a failure. By reference: so that clang's
// 32-bit code leaves the size where the caller put it, and saves no register for it.
__attribute__((noinline, cold)) void *malloc_failed(const size_t &size) {
  if (size == 0) {
    void *block = heap_entry.malloc(1);
    if (block != nullptr) return block;
  }
  errno = ENOMEM;
  return nullptr;
}

__attribute__((noinline, cold)) void *calloc_failed(size_t count, size_t size) {
  if (count == 0 || size == 0) {
    void *block = heap_entry.calloc(1, 1);
    if (block != nullptr) return block;
  }
  errno = ENOMEM;
  return nullptr;
}

__attribute__((noinline, cold)) void *no_memory() {
  errno = ENOMEM;
  return nullptr;
}

// Malloc itself, under two names each: a program that owns malloc calls glibc's __libc_malloc from it, so these must not go
// to the public malloc.

inline void *own_malloc(const size_t &size) {
  void *block = heap_entry.malloc(size);
  return MEMPROXY_UNLIKELY(block == nullptr) ? malloc_failed(size) : block;
}

inline void *own_calloc(size_t count, size_t size) {
  void *block = heap_entry.calloc(count, size);
  return MEMPROXY_UNLIKELY(block == nullptr) ? calloc_failed(count, size) : block;
}

inline void *own_realloc(void *block, size_t size) {
  if (MEMPROXY_UNLIKELY(size == 0)) {
    if (block == nullptr) return own_malloc(0);
    if (route_ready() && route_taken() == Route::kCustom) {
      // As the C libraries of both systems do; allocators differ.
      heap_entry.free(block);
      return nullptr;
    }
    return heap_entry.realloc(block, 0);
  }
  void *fresh = heap_entry.realloc(block, size);
  return MEMPROXY_UNLIKELY(fresh == nullptr) ? no_memory() : fresh;
}

// Overwrites memory that is about to be freed; the compiler must not see that nobody reads it.
void wipe(void *block, size_t size) {
  memset(block, 0, size);
  __asm__ __volatile__("" : : "r"(block) : "memory");
}

template <typename Function>
inline Function *as(void *address) {
  Function *function;
  __builtin_memcpy(&function, &address, sizeof function);  // a cast, with any compiler's consent
  return function;
}

// A function that is known when the route is: a null pointer if there is none.
template <typename Function>
Function *known(void *const &address) {
  return as<Function>(route_ready() ? address : nullptr);
}

// Goes to the program's own function of this name (generic.h), if there is one. Theirs may have other parameters than ours: no
// call may come before the jump, which would lose them; only in a request before the decision it does.
#define FORWARD(name, arguments)                                                            \
  if (void *const address = __atomic_load_n(&generic_names.name, __ATOMIC_ACQUIRE))         \
    MEMPROXY_JUMP return as<decltype(name)>(address) arguments;                             \
  if (auto *const theirs = known<decltype(name)>(generic_names.name)) return theirs arguments

// realloc of what the process calls malloc; as the C libraries of both systems, size 0 frees.
inline void *base_realloc(void *block, size_t size) {
  if (size == 0 && block != nullptr && route_ready() && route_taken() == Route::kCustom) {
    heap_base.free(block);
    return nullptr;
  }
  return heap_base.realloc(block, size);
}

}  // namespace

// ---- C

EXPORT void *malloc(size_t size) noexcept { return own_malloc(size); }

EXPORT void free(void *block) noexcept { MEMPROXY_JUMP return heap_entry.free(block); }

EXPORT void *calloc(size_t count, size_t size) noexcept { return own_calloc(count, size); }

EXPORT void *realloc(void *block, size_t size) noexcept { return own_realloc(block, size); }

EXPORT void *aligned_alloc(size_t alignment, size_t size) noexcept { return heap_entry.aligned_alloc(alignment, size); }

// ---- POSIX, Solaris, BSD

EXPORT void cfree(void *block) noexcept {
  FORWARD(cfree, (block));
  heap_base.free(block);
}

EXPORT void *memalign(size_t alignment, size_t size) noexcept {
  FORWARD(memalign, (alignment, size));
  return heap_entry.memalign(alignment, size);
}

EXPORT int posix_memalign(void **block, size_t alignment, size_t size) noexcept {
  return heap_entry.posix_memalign(block, alignment, size);
}

EXPORT void *valloc(size_t size) noexcept {
  FORWARD(valloc, (size));
  return heap_entry.valloc(size);
}

EXPORT void *pvalloc(size_t size) noexcept {
  FORWARD(pvalloc, (size));
  return heap_entry.pvalloc(size);
}

EXPORT size_t malloc_usable_size(void *block) noexcept { return block == nullptr ? 0 : heap_entry.usable_size(block); }

EXPORT void *reallocarray(void *block, size_t count, size_t size) noexcept {
  size_t total;
  if (__builtin_mul_overflow(count, size, &total)) return no_memory();
  void *fresh = base_realloc(block, total);
  return fresh == nullptr && total != 0 ? no_memory() : fresh;
}

// ---- C23, BSD, Solaris, macOS: names that a library of the program's may have for something of its own (generic.h)

EXPORT void free_sized(void *block, size_t size) noexcept {
  FORWARD(free_sized, (block, size));
  heap_base.free(block);
}

EXPORT void free_aligned_sized(void *block, size_t alignment, size_t size) noexcept {
  FORWARD(free_aligned_sized, (block, alignment, size));
  heap_base.free(block);
}

EXPORT size_t malloc_size(void *block) noexcept {
  FORWARD(malloc_size, (block));
  return block == nullptr ? 0 : heap_entry.usable_size(block);
}

EXPORT void *reallocf(void *block, size_t size) noexcept {
  FORWARD(reallocf, (block, size));
  void *fresh = base_realloc(block, size);
  if (fresh != nullptr || size == 0) return fresh;
  heap_base.free(block);
  return no_memory();
}

EXPORT void freezero(void *block, size_t size) noexcept {
  FORWARD(freezero, (block, size));
  if (block == nullptr) return;
  wipe(block, size);
  heap_base.free(block);
}

EXPORT void freezeroall(void *block) noexcept {
  FORWARD(freezeroall, (block));
  if (block == nullptr) return;
  wipe(block, heap_base.usable_size(block));
  heap_base.free(block);
}

EXPORT void *recallocarray(void *block, size_t old_count, size_t count, size_t size) noexcept {
  FORWARD(recallocarray, (block, old_count, count, size));
  size_t old_total;
  size_t total;
  if (block == nullptr) old_count = 0;
  if (__builtin_mul_overflow(count, size, &total)) return no_memory();
  if (__builtin_mul_overflow(old_count, size, &old_total)) {
    errno = EINVAL;
    return nullptr;
  }
  void *fresh = heap_base.calloc(total == 0 ? 1 : total, 1);
  if (fresh == nullptr) return no_memory();
  if (block != nullptr) {
    memcpy(fresh, block, old_total < total ? old_total : total);
    wipe(block, old_total);
    heap_base.free(block);
  }
  return fresh;
}

// NetBSD: the result is an error number, and the pointer to the block is passed by address.
EXPORT int reallocarr(void *pointer, size_t count, size_t size) noexcept {
  FORWARD(reallocarr, (pointer, count, size));
  const int saved = errno;
  void *block;
  memcpy(&block, pointer, sizeof block);
  size_t total;
  if (__builtin_mul_overflow(count, size, &total)) return EOVERFLOW;
  void *fresh = nullptr;
  if (total == 0) {
    heap_base.free(block);
  } else {
    fresh = heap_base.realloc(block, total);
    errno = saved;
    if (fresh == nullptr) return ENOMEM;
  }
  memcpy(pointer, &fresh, sizeof fresh);
  errno = saved;
  return 0;
}

EXPORT void vfree(void *block) noexcept {
  FORWARD(vfree, (block));
  heap_base.free(block);
}

// mimalloc's, with its order of parameters.
EXPORT void *_aligned_malloc(size_t alignment, size_t size) noexcept {
  FORWARD(_aligned_malloc, (alignment, size));
  return heap_aligned_alloc(alignment, size);
}

EXPORT size_t malloc_good_size(size_t size) noexcept {
  FORWARD(malloc_good_size, (size));
  size_t (*function)(size_t) = known<size_t(size_t)>(route_reports.malloc_good_size);
  return function == nullptr ? size : function(size);
}

// ---- glibc's internal names: malloc itself, but for an allocator that is made from them (libc_malloc_debug.so): there, libc's.

EXPORT void *__libc_malloc(size_t size) noexcept {
  const Heap *const libc = route_libc();
  return libc == nullptr ? own_malloc(size) : libc->malloc(size);
}
EXPORT void *__libc_calloc(size_t count, size_t size) noexcept {
  const Heap *const libc = route_libc();
  return libc == nullptr ? own_calloc(count, size) : libc->calloc(count, size);
}
EXPORT void *__libc_realloc(void *block, size_t size) noexcept {
  const Heap *const libc = route_libc();
  return libc == nullptr || bootstrap_owns(block) ? own_realloc(block, size) : libc->realloc(block, size);
}
EXPORT void __libc_free(void *block) noexcept {
  const Heap *const libc = route_libc();
  libc == nullptr || bootstrap_owns(block) ? heap_entry.free(block) : libc->free(block);
}
EXPORT void __libc_cfree(void *block) noexcept { __libc_free(block); }
EXPORT void *__libc_memalign(size_t alignment, size_t size) noexcept {
  const Heap *const libc = route_libc();
  return libc == nullptr ? heap_entry.memalign(alignment, size) : libc->memalign(alignment, size);
}
EXPORT void *__libc_valloc(size_t size) noexcept {
  const Heap *const libc = route_libc();
  return libc == nullptr ? heap_entry.valloc(size) : libc->valloc(size);
}
EXPORT void *__libc_pvalloc(size_t size) noexcept {
  const Heap *const libc = route_libc();
  return libc == nullptr ? heap_entry.pvalloc(size) : libc->pvalloc(size);
}
EXPORT int __posix_memalign(void **block, size_t alignment, size_t size) noexcept {
  const Heap *const libc = route_libc();
  return (libc == nullptr ? heap_entry : *libc).posix_memalign(block, alignment, size);
}

// ---- Reports

#ifdef __sun
typedef unsigned long mallinfo_word;
#else
typedef int mallinfo_word;
#endif

struct mallinfo {
  mallinfo_word fields[10];
};
struct mallinfo2 {
  size_t fields[10];
};

EXPORT struct mallinfo mallinfo(void) noexcept {
  FORWARD(mallinfo, ());
  struct mallinfo (*function)() = known<struct mallinfo()>(route_reports.mallinfo);
  if (function != nullptr) return function();
  struct mallinfo nothing = {};
  return nothing;
}

EXPORT struct mallinfo2 mallinfo2(void) noexcept {
  FORWARD(mallinfo2, ());
  struct mallinfo2 (*function)() = known<struct mallinfo2()>(route_reports.mallinfo2);
  if (function != nullptr) return function();
  struct mallinfo2 nothing = {};
  return nothing;
}

EXPORT int mallopt(int parameter, int value) noexcept {
  FORWARD(mallopt, (parameter, value));
  int (*function)(int, int) = known<int(int, int)>(route_reports.mallopt);
  return function == nullptr ? 0 : function(parameter, value);
}

EXPORT void malloc_stats(void) noexcept {
  FORWARD(malloc_stats, ());
  void (*function)() = known<void()>(route_reports.malloc_stats);
  if (function != nullptr) function();
}

EXPORT int malloc_trim(size_t pad) noexcept {
  FORWARD(malloc_trim, (pad));
  int (*function)(size_t) = known<int(size_t)>(route_reports.malloc_trim);
  return function == nullptr ? 0 : function(pad);
}

EXPORT int malloc_info(int options, void *stream) noexcept {
  FORWARD(malloc_info, (options, stream));
  int (*function)(int, void *) = known<int(int, void *)>(route_reports.malloc_info);
  if (function != nullptr) return function(options, stream);
  errno = ENOSYS;
  return -1;
}
