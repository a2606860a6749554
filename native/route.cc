// Deciding the route: once, at the first request or in the constructor, whichever comes first.
//
// Whose is malloc? If an object ahead of us (the program itself, or a preload) defines it, calls do not reach us. Then
// whatever else of ours is called forwards to what would be there without us, and operator new to the process's own malloc.
//
// Which is the custom allocator? One that lies in our own directory; or the preload right behind us; or a preload with a known
// allocator's private names: in this order, and only preloads. What some loaded object names as a dependency is not a
// preload: a program linked with jemalloc or libumem has chosen *its* allocator, which is the system's for it, also if its
// name is known. (Right behind us and in our own directory it is both: glibc takes a preload for the dependency of that name.)
//
// Which is the system's? The first dependency behind us that defines malloc: what the program would call without us. It is
// libc's, or that of a library such as libumem that the program is linked with. A preload is never the system's.
//
// State runs START -> RESOLVING -> READY. Nothing waits and nothing is locked: while one thread decides, all others, and the
// same thread if a call comes back to us, are served from the bootstrap region. The tables are complete before READY can be
// seen, and the region is closed only after that.

#include "route.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "bootstrap.h"
#include "debug.h"
#include "exclusions.h"
#include "generic.h"
#include "memproxy.h"
#include "platform.h"
#include "probes.h"
#include "record.h"
#include "sanitizer.h"

RouteReports route_reports;

namespace {

uint32_t state;  // memproxy_state
Route taken;

// The tables as resolved. heap_entry and heap_base hold the same functions, or, while bootstrap blocks may be about, ones
// that first look whether a block is one of these.
Heap entry_target;
Heap base_target;

void *no_memory() {
  errno = ENOMEM;
  return nullptr;
}

// ---- Before the route is decided: each function decides it, or is served from the bootstrap region.

template <Heap &table>
void *early_memalign(size_t alignment, size_t size) {
  if (!route_ready()) {
    size_t power = sizeof(void *);
    while (power < alignment && power <= SIZE_MAX / 4) power *= 2;
    void *block = nullptr;
    switch (bootstrap_allocate(size, power, &block)) {
      case BootstrapAnswer::kBlock: return block;
      case BootstrapAnswer::kNoMemory: return no_memory();
      case BootstrapAnswer::kClosed: break;
    }
  }
  return table.memalign(alignment, size);
}

template <Heap &table>
void *early_malloc(size_t size) {
  if (!route_ready()) {
    void *block = nullptr;
    switch (bootstrap_allocate(size, 1, &block)) {
      case BootstrapAnswer::kBlock: return block;
      case BootstrapAnswer::kNoMemory: return no_memory();
      case BootstrapAnswer::kClosed: break;
    }
  }
  return table.malloc(size);
}

template <Heap &table>
void *early_calloc(size_t count, size_t size) {
  if (route_ready()) return table.calloc(count, size);
  size_t total;
  if (__builtin_mul_overflow(count, size, &total)) return no_memory();
  void *block = early_malloc<table>(total);
  return block == nullptr ? nullptr : memset(block, 0, total);
}

template <Heap &table>
void early_free(void *block) {
  if (block == nullptr) return;
  if (bootstrap_owns(block)) return bootstrap_free(block);
  // Not ours and no heap known yet: left alone.
  if (route_ready()) table.free(block);
}

// A bootstrap block moves to where `allocate` takes it; the old one is given up.
void *move_out(void *block, size_t size, void *(*allocate)(size_t)) {
  void *fresh = nullptr;
  if (size != 0) {
    fresh = allocate(size);
    if (fresh == nullptr) return nullptr;
    const size_t old = bootstrap_size(block);
    memcpy(fresh, block, old < size ? old : size);
  }
  bootstrap_free(block);
  return fresh;
}

template <Heap &table>
void *early_realloc(void *block, size_t size) {
  if (block == nullptr) return early_malloc<table>(size);
  if (bootstrap_owns(block)) return move_out(block, size, early_malloc<table>);
  if (route_ready()) return table.realloc(block, size);
  return no_memory();
}

template <Heap &table>
size_t early_usable_size(void *block) {
  if (block == nullptr) return 0;
  if (bootstrap_owns(block)) return bootstrap_size(block);
  return route_ready() ? table.usable_size(block) : 0;
}

// ---- Afterwards, in a process that has bootstrap blocks in use.

template <const Heap &target>
void checked_free(void *block) {
  if (bootstrap_owns(block)) return bootstrap_free(block);
  target.free(block);
}

template <const Heap &target>
void *checked_realloc(void *block, size_t size) {
  if (bootstrap_owns(block)) return move_out(block, size, target.malloc);
  return target.realloc(block, size);
}

template <const Heap &target>
size_t checked_usable_size(void *block) {
  if (bootstrap_owns(block)) return bootstrap_size(block);
  return target.usable_size(block);
}

// ---- What callers may expect of the C library's functions and not every allocator does.

// libc takes any alignment that is a multiple of four, glibc any that can be rounded up to a power of two.
void *lenient_memalign(size_t alignment, size_t size) {
  if (kPlatformMemalignIsStrict ? alignment == 0 || alignment % 4 != 0 : alignment > SIZE_MAX / 2 + 1) {
    errno = EINVAL;
    return nullptr;
  }
  size_t power = sizeof(void *);
  while (power < alignment) {
    if (power > SIZE_MAX / 4) return no_memory();
    power *= 2;
  }
  return heap_aligned(power, size);
}

// ---- Who is who.

Object find_definer(Object from, Object until, const char *name) {
  for (Object object = from; object != nullptr && object != until; object = object_next(object))
    if (object_function(object, name) != nullptr) return object;
  return nullptr;
}

// Another copy of this library: a user's own preload, or the generation before this one. It has no heap to offer.
bool is_memproxy(Object object) { return object_function(object, "memproxy_route") != nullptr; }

// Made from glibc's malloc by its internal names (libc_malloc_debug.so): these come back to us, who export them too. Never the
// custom allocator; as the program's own it gets libc's functions by these names (leave_libc).
bool is_wrapper(Object object) {
  static const char *const names[] = {"__libc_malloc", "__libc_calloc",   "__libc_realloc", "__libc_memalign",
                                      "__libc_valloc", "__libc_pvalloc", "__libc_free",    "__libc_cfree",
                                      "__posix_memalign"};
  for (const char *name : names)
    if (object_refers_to(object, name)) return true;
  return false;
}

bool is_allocator(Object object, Heap *heap) {
  return !object_is_libc(object) && !is_memproxy(object) && heap_find(heap_source(object), heap) && !is_wrapper(object);
}

Object find_custom(Object self, Heap *heap) {
  Object next = object_next(self);
  while (next != nullptr && is_memproxy(next)) next = object_next(next);
  for (Object object = next; object != nullptr; object = object_next(object)) {
    if (!object_same_directory(self, object) || !is_allocator(object, heap)) continue;
    if (object == next || !object_is_needed(object)) return object;
  }
  if (next != nullptr && is_allocator(next, heap) && !object_is_needed(next)) return next;
  for (Object object = next; object != nullptr; object = object_next(object))
    if (heap_has_known_name(object) && is_allocator(object, heap) && !object_is_needed(object)) return object;
  return nullptr;
}

Object find_system(Object self, Object custom, Heap *heap) {
  for (Object object = object_next(self); object != nullptr; object = object_next(object)) {
    // A program that is linked with the very allocator that is ours has it on either route.
    if (is_memproxy(object) || (object == custom && !object_is_needed(object))) continue;
    heap_find_plain(heap_source(object), heap);
    if (heap->malloc == nullptr || heap->realloc == nullptr || heap->free == nullptr) continue;
    if (object_is_libc(object) || object_is_needed(object)) return object;
  }
  return nullptr;
}

void *lookup_in_libc(const void *, const char *name) { return platform_libc_function(name); }

struct Range {
  Object from, until;
};

void *lookup_in_range(const void *context, const char *name) {
  const Range *range = static_cast<const Range *>(context);
  Object object = find_definer(range->from, range->until, name);
  return object == nullptr ? nullptr : object_function(object, name);
}

// ---- The tables.

Heap libc_heap;
const Heap *libc_behind_wrapper;

template <typename Function>
void fill(Function **place, Function *function) {
  if (*place == nullptr) *place = function;
}

// If our tables are to lead to functions that are made from libc's, these stay libc's own, and what `heap` lacks as well.
void leave_libc(Object server, Heap *heap) {
  if (server == nullptr || object_is_libc(server) || !is_wrapper(server)) return;
  Object libc = object_first();
  while (libc != nullptr && !object_is_libc(libc)) libc = object_next(libc);
  if (libc == nullptr) return;
  heap_find_plain(heap_source(libc), &libc_heap);
  fill(&heap->calloc, libc_heap.calloc);
  fill(&heap->memalign, libc_heap.memalign);
  fill(&heap->posix_memalign, libc_heap.posix_memalign);
  fill(&heap->aligned_alloc, libc_heap.aligned_alloc);
  fill(&heap->valloc, libc_heap.valloc);
  fill(&heap->pvalloc, libc_heap.pvalloc);
  fill(&heap->usable_size, libc_heap.usable_size);
  __atomic_store_n(&libc_behind_wrapper, &libc_heap, __ATOMIC_RELEASE);
}

// The process's malloc is not ours. `ahead` is what the objects ahead of us define, `system` what lies behind.
void set_foreign_tables(const Heap &ahead, const Heap &system) {
  entry_target = system;
  // Functions that nobody ahead of us defines are public in our version. From the owner's if it has what they are made of, so
  // that its free will know the block; else as without us.
  const bool aligned = ahead.memalign != nullptr || ahead.aligned_alloc != nullptr || ahead.posix_memalign != nullptr;
  if (ahead.calloc == nullptr) entry_target.calloc = nullptr;
  if (aligned) {
    if (ahead.memalign == nullptr) entry_target.memalign = nullptr;
    if (ahead.posix_memalign == nullptr) entry_target.posix_memalign = nullptr;
    if (ahead.aligned_alloc == nullptr) entry_target.aligned_alloc = nullptr;
    if (ahead.valloc == nullptr) entry_target.valloc = nullptr;
    if (ahead.pvalloc == nullptr) entry_target.pvalloc = nullptr;
  }
  base_target = ahead;
  if (!aligned) base_target.memalign = system.memalign;
  if (ahead.realloc == nullptr) base_target.realloc = system.realloc;
  if (ahead.free == nullptr) base_target.free = system.free;
  if (ahead.usable_size == nullptr) base_target.usable_size = system.usable_size;
  heap_complete(&base_target);
  if (entry_target.calloc == nullptr) entry_target.calloc = base_target.calloc;
  if (entry_target.memalign == nullptr) entry_target.memalign = lenient_memalign;
  if (entry_target.usable_size == nullptr) entry_target.usable_size = base_target.usable_size;
  if (entry_target.posix_memalign == nullptr) entry_target.posix_memalign = heap_posix_memalign;
  if (entry_target.aligned_alloc == nullptr) entry_target.aligned_alloc = heap_aligned_alloc;
  if (entry_target.valloc == nullptr) entry_target.valloc = heap_valloc;
  if (entry_target.pvalloc == nullptr) entry_target.pvalloc = heap_pvalloc;
}

void set_custom_tables(const Heap &custom) {
  base_target = custom;
  heap_complete(&base_target);
  entry_target = base_target;
  entry_target.memalign = lenient_memalign;
  entry_target.posix_memalign = heap_posix_memalign;
  entry_target.aligned_alloc = heap_aligned_alloc;
  entry_target.valloc = heap_valloc;
  entry_target.pvalloc = heap_pvalloc;
}

void set_system_tables(const Heap &system) {
  base_target = system;
  heap_complete(&base_target);
  entry_target = base_target;
  if (system.memalign == nullptr) entry_target.memalign = lenient_memalign;
}

void set_reports(const HeapSource &source) {
  route_reports.mallinfo = source.lookup(source.context, "mallinfo");
  route_reports.mallinfo2 = source.lookup(source.context, "mallinfo2");
  route_reports.mallopt = source.lookup(source.context, "mallopt");
  route_reports.malloc_stats = source.lookup(source.context, "malloc_stats");
  route_reports.malloc_trim = source.lookup(source.context, "malloc_trim");
  route_reports.malloc_info = source.lookup(source.context, "malloc_info");
  route_reports.malloc_good_size = source.lookup(source.context, "malloc_good_size");
}

template <typename Function>
void publish(Function *place, Function function) {
  __atomic_store_n(place, function, __ATOMIC_RELEASE);
}

// What takes blocks back comes first, in both tables: another thread may free a block as soon as it can get one.
template <const Heap &target>
void publish_takers(Heap *table, bool check) {
  publish(&table->realloc, check ? checked_realloc<target> : target.realloc);
  publish(&table->free, check ? checked_free<target> : target.free);
  publish(&table->usable_size, check ? checked_usable_size<target> : target.usable_size);
}

template <const Heap &target>
void publish_givers(Heap *table) {
  publish(&table->malloc, target.malloc);
  publish(&table->calloc, target.calloc);
  publish(&table->memalign, target.memalign);
  publish(&table->posix_memalign, target.posix_memalign);
  publish(&table->aligned_alloc, target.aligned_alloc);
  publish(&table->valloc, target.valloc);
  publish(&table->pvalloc, target.pvalloc);
}

void publish_tables() {
  publish_takers<entry_target>(&heap_entry, true);
  publish_takers<base_target>(&heap_base, true);
  publish_givers<entry_target>(&heap_entry);
  publish_givers<base_target>(&heap_base);
}

// No block of the bootstrap region is in use, nor will one be.
void publish_without_checks() {
  publish_takers<entry_target>(&heap_entry, false);
  publish_takers<base_target>(&heap_base, false);
}

// glibc's malloc sets itself up without a lock in its first call, and relies on there being one thread only. Threads that are
// older than the decision would all make their first call at once.
void warm_up_system() {
  if (taken == Route::kSystem && entry_target.malloc != nullptr) entry_target.free(entry_target.malloc(1));
}

// The allocators that we know set themselves up in their first call; libc's initialiser is the first of all.
void initialise(Object server) {
  if (server == nullptr || server == object_first() || object_is_libc(server) || heap_has_known_name(server)) return;
  platform_initialise(object_path(server), "malloc");
}

// ---- The decision.

struct Decision {
  Route wanted;
  memproxy_reason_number reason;
  unsigned line;
};

Decision decide(const char *executable, bool secure) {
  Decision decision = {Route::kCustom, MEMPROXY_REASON_DEFAULT, 0};
  if (exclusions_lookup(exclusions_list_path, executable, &decision.wanted, &decision.line)) decision.reason = MEMPROXY_REASON_LIST;
  const char *word = secure ? nullptr : platform_environment("MEMPROXY_ROUTE");
  if (word != nullptr && route_from_name(word, strlen(word), &decision.wanted)) decision.reason = MEMPROXY_REASON_ENVIRONMENT;
  return decision;
}

// False if there is no malloc to be had: neither by the linker's list nor from it by name.
bool resolve() {
  // Not on the stack: the first request may come on a small one, and memproxy_allocator() may hand the path out. Only one
  // thread ever comes here.
  static char path[4096];
  const char *executable = platform_executable(path, sizeof path);
  const bool secure = platform_secure();
  Decision decision = decide(executable, secure);

  Object self = object_self();
  Object custom = nullptr;
  Object system = nullptr;
  Object owner = nullptr;
  bool sanitized = false;
  Heap custom_heap;
  Heap system_heap;
  if (self != nullptr) {
    owner = find_definer(object_first(), self, "malloc");
    custom = find_custom(self, &custom_heap);
    system = find_system(self, custom, &system_heap);
    if (system != nullptr && sanitizer_defines(system)) {
      sanitized = true;
      custom = nullptr;
    }
    operators_find(self, custom);
    generic_find(self, custom);
  }
  const HeapSource libc = {lookup_in_libc, nullptr};
  const HeapSource system_source = system == nullptr ? libc : heap_source(system);
  if (system == nullptr) heap_find_plain(libc, &system_heap);

  Object server = system;
  if (owner != nullptr) {
    const Range range = {object_first(), self};
    const HeapSource source = {lookup_in_range, &range};
    Heap ahead;
    heap_find_plain(source, &ahead);
    leave_libc(system, &system_heap);
    set_foreign_tables(ahead, system_heap);
    set_reports(system_source);
    decision.wanted = Route::kSystem;
    decision.reason = MEMPROXY_REASON_NOT_OWNER;
    server = owner;
  } else if (decision.wanted == Route::kCustom && custom != nullptr) {
    set_custom_tables(custom_heap);
    set_reports(heap_source(custom));
    server = custom;
  } else {
    if (decision.wanted == Route::kCustom)
      decision.reason = sanitized ? MEMPROXY_REASON_SANITIZER : MEMPROXY_REASON_NO_ALLOCATOR;
    decision.wanted = Route::kSystem;
    if (system_heap.malloc == nullptr || system_heap.realloc == nullptr || system_heap.free == nullptr) return false;
    leave_libc(system, &system_heap);
    set_system_tables(system_heap);
    set_reports(system_source);
  }

  taken = decision.wanted;
  const char *server_path = server == nullptr ? kPlatformLibc : object_path(server);
  if (server != nullptr && server == object_first() && executable != nullptr) server_path = executable;
  record_fill(decision.wanted, decision.reason, decision.line, server_path);
  MEMPROXY_ROUTE(route_name(taken), record_reason(), executable, decision.line, server_path);
  const char *debug = secure ? nullptr : platform_environment("MEMPROXY_DEBUG");
  if (debug != nullptr && strcmp(debug, "1") == 0) debug_tell(executable, exclusions_list_path);
  initialise(server);
  return true;
}

}  // namespace

Heap heap_entry = {early_malloc<heap_entry>, early_calloc<heap_entry>, early_realloc<heap_entry>, early_free<heap_entry>,
                   early_memalign<heap_entry>, heap_posix_memalign, heap_aligned_alloc, heap_valloc, heap_pvalloc,
                   early_usable_size<heap_entry>};

Heap heap_base = {early_malloc<heap_base>, early_calloc<heap_base>, early_realloc<heap_base>, early_free<heap_base>,
                  early_memalign<heap_base>, heap_posix_memalign, heap_aligned_alloc, heap_valloc, heap_pvalloc,
                  early_usable_size<heap_base>};

bool route_ready(bool insist) {
  uint32_t now = __atomic_load_n(&state, __ATOMIC_ACQUIRE);
  if (now == MEMPROXY_STATE_READY) return true;
  if (now == MEMPROXY_STATE_RESOLVING || !(insist || platform_started())) return false;
  if (!__atomic_compare_exchange_n(&state, &now, static_cast<uint32_t>(MEMPROXY_STATE_RESOLVING), false, __ATOMIC_ACQ_REL,
                                   __ATOMIC_ACQUIRE))
    return now == MEMPROXY_STATE_READY;
  const int saved = errno;
  record_state(MEMPROXY_STATE_RESOLVING);
  MEMPROXY_DECIDE();
  if (!resolve()) {
    // Nobody's free will know a block, then: all stay bootstrap blocks, and the state as it is.
    errno = saved;
    return false;
  }
  warm_up_system();
  publish_tables();
  record_state(MEMPROXY_STATE_READY);
  __atomic_store_n(&state, static_cast<uint32_t>(MEMPROXY_STATE_READY), __ATOMIC_RELEASE);
  if (bootstrap_close()) publish_without_checks();
  errno = saved;
  return true;
}

Route route_taken() { return taken; }

const Heap *route_libc() { return __atomic_load_n(&libc_behind_wrapper, __ATOMIC_ACQUIRE); }
