// The bootstrap region: bump pointers without lock, wait or limit.
//
// One word counts the blocks in use and says whether the region is closed, so that "hand out" and "close" cannot cross: a
// block is counted before its place is taken, and not at all once the region is closed. When the region is full, chunks are
// mapped, each twice as large as the one before, so that to recognise a block stays a matter of a few comparisons.

#include "bootstrap.h"

#include <string.h>

#include "platform.h"
#include "probes.h"

Bootstrap bootstrap;

struct BootstrapChunk {
  BootstrapChunk *next;
  size_t size;  // of the whole mapping, this header included
  size_t used;
};

namespace {

const size_t kUnit = 16;

struct Header {  // in front of each block
  size_t size;
  uint32_t freed;
};
static_assert(sizeof(Header) <= kUnit, "the header must not cost the block its alignment");

const uint32_t kClosedBit = 0x80000000u;
const uint32_t kMaximumBlocks = kClosedBit - 1;

uint32_t blocks_in_use;  // and kClosedBit
size_t region_used;

uintptr_t round_up(uintptr_t value, size_t alignment) { return (value + alignment - 1) & ~(uintptr_t{alignment} - 1); }

Header *header_of(const void *block) {
  return reinterpret_cast<Header *>(reinterpret_cast<uintptr_t>(block) - kUnit);
}

// Takes a block from the memory at `base`, of whose `size` bytes *used are taken. Null if it does not fit.
void *bump(uintptr_t base, size_t size, size_t *used, size_t wanted, size_t alignment) {
  size_t old = __atomic_load_n(used, __ATOMIC_RELAXED);
  uintptr_t start;
  size_t taken;
  do {
    start = round_up(base + old + kUnit, alignment);
    if (start - base > size || size - (start - base) < wanted) return nullptr;
    taken = round_up(start - base + wanted, kUnit);
  } while (!__atomic_compare_exchange_n(used, &old, taken, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  header_of(reinterpret_cast<void *>(start))->size = wanted;
  return reinterpret_cast<void *>(start);
}

void *bump_chunk(BootstrapChunk *chunk, size_t wanted, size_t alignment) {
  return bump(reinterpret_cast<uintptr_t>(chunk), chunk->size, &chunk->used, wanted, alignment);
}

// Maps a chunk that holds the block, takes the block and lets others have the rest.
void *grow(size_t wanted, size_t alignment, const BootstrapChunk *newest) {
  const size_t needed = wanted + 2 * alignment + 2 * kUnit + sizeof(BootstrapChunk);
  size_t size = newest == nullptr ? 4 * sizeof bootstrap.region : newest->size;
  if (size <= SIZE_MAX / 16 && newest != nullptr) size *= 2;
  if (size < needed) size = needed;
  size = round_up(size, platform_page_size());
  void *pages = platform_pages(size);
  if (pages == nullptr) {  // then just what is needed
    size = round_up(needed, platform_page_size());
    pages = platform_pages(size);
    if (pages == nullptr) return nullptr;
  }
  BootstrapChunk *chunk = static_cast<BootstrapChunk *>(pages);
  chunk->size = size;
  chunk->used = sizeof *chunk;
  void *block = bump_chunk(chunk, wanted, alignment);
  chunk->next = __atomic_load_n(&bootstrap.chunks, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(&bootstrap.chunks, &chunk->next, chunk, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
  }
  return block;
}

void *take(size_t wanted, size_t alignment) {
  if (wanted > SIZE_MAX / 4 || alignment > SIZE_MAX / 16) return nullptr;
  const uintptr_t region = reinterpret_cast<uintptr_t>(bootstrap.region);
  void *block = bump(region, sizeof bootstrap.region, &region_used, wanted, alignment);
  BootstrapChunk *const newest = __atomic_load_n(&bootstrap.chunks, __ATOMIC_ACQUIRE);
  for (BootstrapChunk *chunk = newest; block == nullptr && chunk != nullptr; chunk = chunk->next)
    block = bump_chunk(chunk, wanted, alignment);
  return block == nullptr ? grow(wanted, alignment, newest) : block;
}

}  // namespace

BootstrapAnswer bootstrap_allocate(size_t size, size_t alignment, void **block) {
  uint32_t old = __atomic_load_n(&blocks_in_use, __ATOMIC_ACQUIRE);
  do {
    if ((old & kClosedBit) != 0) return BootstrapAnswer::kClosed;
    if (old == kMaximumBlocks) return BootstrapAnswer::kNoMemory;
  } while (!__atomic_compare_exchange_n(&blocks_in_use, &old, old + 1, true, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
  *block = take(size == 0 ? 1 : size, alignment < kUnit ? kUnit : alignment);
  if (*block != nullptr) {
    MEMPROXY_BOOTSTRAP(*block, size, alignment);
    return BootstrapAnswer::kBlock;
  }
  __atomic_sub_fetch(&blocks_in_use, 1u, __ATOMIC_ACQ_REL);
  return BootstrapAnswer::kNoMemory;
}

void bootstrap_free(void *block) {
  if (__atomic_exchange_n(&header_of(block)->freed, 1u, __ATOMIC_ACQ_REL) == 0)
    __atomic_sub_fetch(&blocks_in_use, 1u, __ATOMIC_ACQ_REL);
}

size_t bootstrap_size(const void *block) { return header_of(block)->size; }

bool bootstrap_close() { return __atomic_fetch_or(&blocks_in_use, kClosedBit, __ATOMIC_ACQ_REL) == 0; }

bool bootstrap_owns_chunk(const void *block) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(block);
  for (BootstrapChunk *chunk = __atomic_load_n(&bootstrap.chunks, __ATOMIC_ACQUIRE); chunk != nullptr; chunk = chunk->next)
    if (address - reinterpret_cast<uintptr_t>(chunk) < chunk->size) return true;
  return false;
}
