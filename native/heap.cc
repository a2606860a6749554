// Finding an allocator's functions, and making those that it lacks from those that it has.

#include "heap.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "platform.h"

namespace {

// The one table of names. A null pointer: no such function, or one with other parameters. The first row is the plain
// names; of each other row the malloc is a name that no other allocator has.
// Sources: the projects' public headers. TBB's scalable_aligned_malloc has its parameters the other way round, so its
// posix_memalign serves.
struct Names {
  const char *malloc, *calloc, *realloc, *free, *memalign, *aligned_alloc, *posix_memalign, *usable_size;
};

const Names kNames[] = {
    {"malloc", "calloc", "realloc", "free", "memalign", "aligned_alloc", "posix_memalign", "malloc_usable_size"},
    {"mi_malloc", "mi_calloc", "mi_realloc", "mi_free", "mi_memalign", "mi_aligned_alloc", "mi_posix_memalign",
     "mi_usable_size"},
    {"je_malloc", "je_calloc", "je_realloc", "je_free", "je_memalign", "je_aligned_alloc", "je_posix_memalign",
     "je_malloc_usable_size"},
    {"tc_malloc", "tc_calloc", "tc_realloc", "tc_free", "tc_memalign", nullptr, "tc_posix_memalign", "tc_malloc_size"},
    {"TCMallocInternalMalloc", "TCMallocInternalCalloc", "TCMallocInternalRealloc", "TCMallocInternalFree",
     "TCMallocInternalMemalign", "TCMallocInternalAlignedAlloc", "TCMallocInternalPosixMemalign",
     "TCMallocInternalMallocSize"},
    {"ltmalloc", "ltcalloc", "ltrealloc", "ltfree", "ltmemalign", nullptr, nullptr, "ltmsize"},
    {"scalable_malloc", "scalable_calloc", "scalable_realloc", "scalable_free", nullptr, nullptr,
     "scalable_posix_memalign", "scalable_msize"},
    {"xxmalloc", "xxcalloc", "xxrealloc", "xxfree", "xxmemalign", "xxaligned_alloc", nullptr, "xxmalloc_usable_size"},
    {"h_malloc", "h_calloc", "h_realloc", "h_free", "h_memalign", "h_aligned_alloc", "h_posix_memalign",
     "h_malloc_usable_size"},
    {"sn_malloc", "sn_calloc", "sn_realloc", "sn_free", "sn_memalign", "sn_aligned_alloc", "sn_posix_memalign",
     "sn_malloc_usable_size"},
};

// Names that give away an allocator of which only the plain names will do: jemalloc, Scudo, rpmalloc (whose own names want
// each thread to be announced, unless it is the build that has the plain ones too).
const char *const kMarkers[] = {"mallocx", "__scudo_print_stats", "rpmalloc"};

// Addresses for the functions that are made from aligned_alloc or posix_memalign; only heap_complete's result uses them.
int (*base_posix_memalign)(void **, size_t, size_t);
void *(*base_aligned_alloc)(size_t, size_t);

template <typename Function>
void find(const HeapSource &source, const char *name, Function *function) {
  void *address = name == nullptr ? nullptr : source.lookup(source.context, name);
  memcpy(function, &address, sizeof address);  // a cast from object to function pointer, with any compiler's consent
  static_assert(sizeof address == sizeof *function, "pointers of one size");
}

void find_row(const HeapSource &source, const Names &names, Heap *heap) {
  memset(heap, 0, sizeof *heap);
  find(source, names.malloc, &heap->malloc);
  find(source, names.calloc, &heap->calloc);
  find(source, names.realloc, &heap->realloc);
  find(source, names.free, &heap->free);
  find(source, names.memalign, &heap->memalign);
  find(source, names.aligned_alloc, &heap->aligned_alloc);
  find(source, names.posix_memalign, &heap->posix_memalign);
  find(source, names.usable_size, &heap->usable_size);
}

void *lookup_in_object(const void *object, const char *name) { return object_function(static_cast<Object>(object), name); }

bool is_power_of_two(size_t value) { return value != 0 && (value & (value - 1)) == 0; }

void *fail(int error) {
  errno = error;
  return nullptr;
}

size_t no_usable_size(void *) { return 0; }

// For one that knows its blocks' sizes and has no realloc: older versions of Hoard.
void *realloc_by_copy(void *block, size_t size) {
  if (block == nullptr) return heap_base.malloc(size);
  const size_t old = heap_base.usable_size(block);
  void *fresh = heap_base.malloc(size);
  if (fresh == nullptr) return fail(ENOMEM);
  memcpy(fresh, block, old < size ? old : size);
  heap_base.free(block);
  return fresh;
}

bool is_complete(const Heap &heap) { return heap.malloc != nullptr && heap.realloc != nullptr && heap.free != nullptr; }

// For an allocator without any aligned function, or whose one fails always (libmapmalloc's): most give a block of a power of two its natural alignment. Where it does
// not, there is no block that its free would take back, so the request fails.
void *memalign_by_luck(size_t alignment, size_t size) {
  if (size > SIZE_MAX / 2 || alignment > SIZE_MAX / 2) return fail(ENOMEM);
  const size_t rounded = (size + alignment - 1) & ~(alignment - 1);
  for (size_t attempt = size < alignment ? alignment : size;; attempt = rounded) {
    void *block = heap_base.malloc(attempt);
    if (block == nullptr) return fail(ENOMEM);
    if ((reinterpret_cast<uintptr_t>(block) & (alignment - 1)) == 0) return block;
    heap_base.free(block);
    if (attempt >= rounded) return fail(ENOMEM);
  }
}

}  // namespace

HeapSource heap_source(Object object) {
  HeapSource source = {lookup_in_object, object};
  return source;
}

bool heap_has_known_name(Object object) {
  for (size_t row = 1; row < sizeof kNames / sizeof *kNames; ++row)
    if (object_function(object, kNames[row].malloc) != nullptr) return true;
  for (size_t i = 0; i < sizeof kMarkers / sizeof *kMarkers; ++i)
    if (object_function(object, kMarkers[i]) != nullptr) return true;
  return false;
}

void heap_find_plain(const HeapSource &source, Heap *heap) {
  find_row(source, kNames[0], heap);
  if (heap->usable_size == nullptr) find(source, "malloc_size", &heap->usable_size);
  find(source, "valloc", &heap->valloc);
  find(source, "pvalloc", &heap->pvalloc);
}

bool heap_find(const HeapSource &source, Heap *heap) {
  heap_find_plain(source, heap);
  if (is_complete(*heap)) return true;
  for (size_t row = 1; row < sizeof kNames / sizeof *kNames; ++row) {
    find_row(source, kNames[row], heap);
    if (heap->realloc == nullptr && heap->usable_size != nullptr) heap->realloc = realloc_by_copy;
    if (is_complete(*heap)) return true;
  }
  return false;
}

void heap_complete(Heap *heap) {
  if (heap->calloc == nullptr) heap->calloc = heap_calloc;
  if (heap->memalign == nullptr) {
    base_posix_memalign = heap->posix_memalign;
    base_aligned_alloc = heap->aligned_alloc;
    if (heap->aligned_alloc != nullptr)
      heap->memalign = heap_memalign_by_aligned_alloc;
    else if (heap->posix_memalign != nullptr)
      heap->memalign = heap_memalign_by_posix_memalign;
    else
      heap->memalign = memalign_by_luck;
  }
  if (heap->posix_memalign == nullptr) heap->posix_memalign = heap_posix_memalign;
  if (heap->aligned_alloc == nullptr) heap->aligned_alloc = heap_aligned_alloc;
  if (heap->valloc == nullptr) heap->valloc = heap_valloc;
  if (heap->pvalloc == nullptr) heap->pvalloc = heap_pvalloc;
  if (heap->usable_size == nullptr) heap->usable_size = no_usable_size;
}

void *heap_calloc(size_t count, size_t size) {
  size_t total;
  if (__builtin_mul_overflow(count, size, &total)) return fail(ENOMEM);
  void *block = heap_base.malloc(total);
  return block == nullptr ? nullptr : memset(block, 0, total);
}

void *heap_memalign_by_aligned_alloc(size_t alignment, size_t size) {
  // Strict ones want a multiple of the alignment.
  if (size > SIZE_MAX - alignment) return fail(ENOMEM);
  return base_aligned_alloc(alignment, (size + alignment - 1) & ~(alignment - 1));
}

void *heap_memalign_by_posix_memalign(size_t alignment, size_t size) {
  void *block = nullptr;
  const int error = base_posix_memalign(&block, alignment, size);
  return error == 0 ? block : fail(error);
}

void *heap_aligned(size_t alignment, size_t size) {
  void *block = heap_base.memalign(alignment, size);
  if (block != nullptr && (reinterpret_cast<uintptr_t>(block) & (alignment - 1)) != 0) {
    // mimalloc 2.0.9 takes its block of a power of two for aligned by nature, which from 256 on it is not.
    heap_base.free(block);
    if (size > SIZE_MAX - alignment) return fail(ENOMEM);
    block = heap_base.memalign(alignment, size + alignment / 2);
    if (block != nullptr && (reinterpret_cast<uintptr_t>(block) & (alignment - 1)) != 0) {
      heap_base.free(block);
      block = nullptr;
    }
  }
  return block == nullptr ? memalign_by_luck(alignment, size) : block;
}

int heap_posix_memalign(void **block, size_t alignment, size_t size) {
  if (!is_power_of_two(alignment) || alignment % sizeof(void *) != 0) return EINVAL;
  const int saved = errno;  // the error is the result alone
  void *fresh = heap_aligned(alignment, size);
  errno = saved;
  if (fresh == nullptr && size != 0) return ENOMEM;
  *block = fresh;
  return 0;
}

void *heap_aligned_alloc(size_t alignment, size_t size) {
  if (!is_power_of_two(alignment)) return fail(EINVAL);
  return heap_aligned(alignment < sizeof(void *) ? sizeof(void *) : alignment, size);
}

void *heap_valloc(size_t size) { return heap_aligned(platform_page_size(), size); }

void *heap_pvalloc(size_t size) {
  const size_t page = platform_page_size();
  if (size > SIZE_MAX - page) return fail(ENOMEM);
  const size_t rounded = size == 0 ? page : (size + page - 1) & ~(page - 1);
  return heap_aligned(page, rounded);
}
