// Memory for requests that come while the route is being decided, and the knowledge for ever after of which blocks these are.
#ifndef MEMPROXY_BOOTSTRAP_H
#define MEMPROXY_BOOTSTRAP_H

#include <stddef.h>
#include <stdint.h>

#include "export.h"

struct BootstrapChunk;

// Address range of the static region, and the chunks that were mapped when it was full. Read-only to others.
struct Bootstrap {
  alignas(4096) unsigned char region[256 * 1024];
  BootstrapChunk *chunks;
};
extern HIDDEN Bootstrap bootstrap;

enum class BootstrapAnswer { kBlock, kNoMemory, kClosed };

// A zeroed block of at least `size` bytes at a multiple of `alignment` (a power of two; at least 16 is given) in *block.
// kClosed: bootstrap_close was called, which happens only when the heaps can be used.
BootstrapAnswer bootstrap_allocate(size_t size, size_t alignment, void **block);

// For blocks that bootstrap_owns. A block is not used again; a second free of it does nothing.
void bootstrap_free(void *block);
size_t bootstrap_size(const void *block);

// No block is handed out any more from now on. True if none is in use, so that nobody needs to ask bootstrap_owns.
bool bootstrap_close();

bool bootstrap_owns_chunk(const void *block);

inline bool bootstrap_owns(const void *block) {
  if (reinterpret_cast<uintptr_t>(block) - reinterpret_cast<uintptr_t>(bootstrap.region) < sizeof bootstrap.region) return true;
  return __builtin_expect(__atomic_load_n(&bootstrap.chunks, __ATOMIC_ACQUIRE) != nullptr, 0) && bootstrap_owns_chunk(block);
}

#endif
