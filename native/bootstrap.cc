// The bootstrap region: an atomic bump pointer without lock, wait or limit.
//
// One word holds all state, so that "hand out" and "close" cannot cross: how many units of the region are taken, how many
// blocks are in use, and whether the region is closed. What does not fit into the region gets a mapping of its own.

#include "bootstrap.h"

#include <string.h>

#include "platform.h"

Bootstrap bootstrap;

namespace {

const size_t kUnit = 16;

struct Header {  // in front of each block
  size_t size;
  uint32_t freed;
};
static_assert(sizeof(Header) <= kUnit, "the header must not cost the block its alignment");

const uint32_t kClosedBit = 0x80000000u;
const uint32_t kBlock = 0x10000u;
const uint32_t kUnitsMask = 0xffffu;
const uint32_t kBlocksMask = kClosedBit - kBlock;
static_assert(sizeof bootstrap.region / kUnit <= kUnitsMask, "units fit into their part of the word");
static_assert(sizeof bootstrap.region / kUnit / 2 < kBlocksMask / kBlock, "so do blocks, each of two units or more");

uint32_t word;

uintptr_t round_up(uintptr_t value, size_t alignment) { return (value + alignment - 1) & ~(uintptr_t{alignment} - 1); }

Header *header_of(const void *block) {
  return reinterpret_cast<Header *>(reinterpret_cast<uintptr_t>(block) - kUnit);
}

}  // namespace

struct BootstrapChunk {
  BootstrapChunk *next;
  size_t size;
};

namespace {

BootstrapAnswer allocate_chunk(size_t size, size_t alignment, void **block) {
  const size_t head = round_up(sizeof(BootstrapChunk), kUnit) + kUnit;
  if (size > SIZE_MAX / 2 || alignment > SIZE_MAX / 4) return BootstrapAnswer::kNoMemory;
  const size_t length = round_up(head + alignment + size, platform_page_size());
  unsigned char *pages = static_cast<unsigned char *>(platform_pages(length));
  if (pages == nullptr) return BootstrapAnswer::kNoMemory;
  // Count the block before it can be seen, or give up if the region was closed meanwhile.
  uint32_t old = __atomic_load_n(&word, __ATOMIC_ACQUIRE);
  do {
    if ((old & kClosedBit) != 0 || (old & kBlocksMask) == kBlocksMask) {
      platform_release_pages(pages, length);
      return (old & kClosedBit) != 0 ? BootstrapAnswer::kClosed : BootstrapAnswer::kNoMemory;
    }
  } while (!__atomic_compare_exchange_n(&word, &old, old + kBlock, true, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
  BootstrapChunk *chunk = reinterpret_cast<BootstrapChunk *>(pages);
  chunk->size = length;
  unsigned char *start = reinterpret_cast<unsigned char *>(round_up(reinterpret_cast<uintptr_t>(pages) + head, alignment));
  header_of(start)->size = size;
  chunk->next = __atomic_load_n(&bootstrap.chunks, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(&bootstrap.chunks, &chunk->next, chunk, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
  }
  *block = start;
  return BootstrapAnswer::kBlock;
}

}  // namespace

BootstrapAnswer bootstrap_allocate(size_t size, size_t alignment, void **block) {
  if (alignment < kUnit) alignment = kUnit;
  const uintptr_t region = reinterpret_cast<uintptr_t>(bootstrap.region);
  if (size > sizeof bootstrap.region || alignment > sizeof bootstrap.region) return allocate_chunk(size, alignment, block);
  uint32_t old = __atomic_load_n(&word, __ATOMIC_ACQUIRE);
  uint32_t next;
  uintptr_t start;
  do {
    if ((old & kClosedBit) != 0) return BootstrapAnswer::kClosed;
    if ((old & kBlocksMask) == kBlocksMask) return BootstrapAnswer::kNoMemory;
    start = round_up(region + (old & kUnitsMask) * kUnit + kUnit, alignment);
    const uintptr_t end = round_up(start + (size == 0 ? 1 : size), kUnit);
    if (end > region + sizeof bootstrap.region) return allocate_chunk(size, alignment, block);
    next = ((old & kBlocksMask) + kBlock) | static_cast<uint32_t>((end - region) / kUnit);
  } while (!__atomic_compare_exchange_n(&word, &old, next, true, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
  *block = reinterpret_cast<void *>(start);
  header_of(*block)->size = size;
  return BootstrapAnswer::kBlock;
}

void bootstrap_free(void *block) {
  if (__atomic_exchange_n(&header_of(block)->freed, 1u, __ATOMIC_ACQ_REL) == 0)
    __atomic_sub_fetch(&word, kBlock, __ATOMIC_ACQ_REL);
}

size_t bootstrap_size(const void *block) { return header_of(block)->size; }

bool bootstrap_close() {
  return (__atomic_fetch_or(&word, kClosedBit, __ATOMIC_ACQ_REL) & kBlocksMask) == 0;
}

bool bootstrap_owns_chunk(const void *block) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(block);
  for (BootstrapChunk *chunk = __atomic_load_n(&bootstrap.chunks, __ATOMIC_ACQUIRE); chunk != nullptr; chunk = chunk->next)
    if (address - reinterpret_cast<uintptr_t>(chunk) < chunk->size) return true;
  return false;
}
