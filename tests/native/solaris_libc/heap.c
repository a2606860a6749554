// malloc(3C) of a libc that behaves as illumos' does (Solaris 10's and 11.4's by what the version script lets out).
//
// calloc, memalign and the rest call the public malloc and then edit the header in front of the block. A block whose header is
// not ours ends the process. A free list, first fit; the block freed last stays intact until the next malloc or realloc.

#include "lab.h"

#include <errno.h>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *sol_malloc(size_t) PUBLIC(malloc);
void sol_free(void *) PUBLIC(free);
void *sol_calloc(size_t, size_t) PUBLIC(calloc);
void *sol_realloc(void *, size_t) PUBLIC(realloc);
void *sol_memalign(size_t, size_t) PUBLIC(memalign);
void *sol_valloc(size_t) PUBLIC(valloc);
void sol_cfree(void *, size_t, size_t) PUBLIC(cfree);
int sol_posix_memalign(void **, size_t, size_t) PROTECTED(posix_memalign);
void *sol_aligned_alloc(size_t, size_t) PROTECTED(aligned_alloc);
void *sol_reallocarray(void *, size_t, size_t) PROTECTED(reallocarray);
void *sol_reallocf(void *, size_t) PROTECTED(reallocf);
void *sol_recallocarray(void *, size_t, size_t, size_t) PROTECTED(recallocarray);
void sol_freezero(void *, size_t) PROTECTED(freezero);
void sol_freezeroall(void *) PROTECTED(freezeroall);
size_t sol_usable_size(void *) PUBLIC(malloc_usable_size);
char *sol_strdup(const char *) PROTECTED(strdup);
int lab_libc_owns(const void *) PUBLIC(lab_libc_owns);

struct header {  // 8 bytes in 32 bit, 16 in 64 bit: a block's alignment, which is all that libc promises
  size_t size;   // of the block; a multiple of the header's size
  uintptr_t mark;
};
enum { kUnit = sizeof(struct header) };
static const uintptr_t kInUse = 0x5015ab1e, kCleared = 0x5015c1ea, kFree = 0xf4eeb10c;

struct free_block {
  struct header header;
  struct free_block *next;
};

LOCAL int lab_heap_lock;
static struct free_block *free_list;
static char *arena, *arena_end, *arena_top;
static struct header *freed_last;

static void *fail(int error) {
  errno = error;
  return NULL;
}

static int in_use(const struct header *header) {
  return ((const char *)header >= arena && (const char *)header < arena_top) &&
         (header->mark == kInUse || header->mark == kCleared);
}

static struct header *header_of(const void *block, const char *complaint) {
  struct header *header = (struct header *)((char *)block - kUnit);
  if (!in_use(header)) lab_die(complaint);
  return header;
}

int lab_libc_owns(const void *block) { return block != NULL && in_use((const struct header *)((const char *)block - kUnit)); }

// With the lock held.
static void let_go_of_last(void) {
  if (freed_last == NULL) return;
  struct free_block *block = (struct free_block *)freed_last;
  freed_last = NULL;
  if (block->header.size < sizeof block->next) return;
  block->next = free_list;
  free_list = block;
}

static void free_header(struct header *header) {
  lab_lock(&lab_heap_lock);
  let_go_of_last();
  header->mark = kFree;
  freed_last = header;
  lab_unlock(&lab_heap_lock);
}

static void *take(size_t size) {
  struct header *header = NULL;
  if (size > (size_t)-1 / 4) return fail(ENOMEM);
  size = (size + kUnit - 1) & ~(size_t)(kUnit - 1);
  if (size == 0) size = kUnit;
  lab_lock(&lab_heap_lock);
  let_go_of_last();
  for (struct free_block **at = &free_list; *at != NULL && header == NULL; at = &(*at)->next)
    if ((*at)->header.size >= size && (*at)->header.size <= 2 * size + 64) {
      header = &(*at)->header;
      *at = (*at)->next;
      break;
    }
  if (header == NULL) {
    if (arena == NULL) {
      const size_t whole = (size_t)256 << 20;
      long got;
#ifdef SYS_mmap2
      got = syscall(SYS_mmap2, 0, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
#else
      got = syscall(SYS_mmap, 0, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
#endif
      if (got == -1) lab_die("no arena");
      arena_end = (char *)got + whole;
      // Blocks are as little aligned as may be: nobody must rely on more.
      arena_top = arena = (char *)got;
    }
    if ((size_t)(arena_end - arena_top) < size + kUnit) {
      lab_unlock(&lab_heap_lock);
      return fail(ENOMEM);
    }
    header = (struct header *)arena_top;
    header->size = size;
    arena_top += kUnit + size;
  }
  header->mark = kInUse;
  lab_unlock(&lab_heap_lock);
  lab_memset(header + 1, 0xa5, header->size);
  return header + 1;
}

void *sol_malloc(size_t size) {
  NOTE("malloc");
  return take(size);
}

void sol_free(void *block) {
  NOTE("free");
  if (block != NULL) free_header(header_of(block, "free of a foreign block"));
}

void *sol_calloc(size_t count, size_t size) {
  size_t total;
  NOTE("calloc");
  if (__builtin_mul_overflow(count, size, &total)) return fail(ENOMEM);
  void *block = sol_malloc(total);
  if (block == NULL) return NULL;
  header_of(block, "calloc was given a foreign block by malloc")->mark = kCleared;
  return lab_memset(block, 0, total);
}

void *sol_realloc(void *block, size_t size) {
  NOTE("realloc");
  if (block == NULL) return sol_malloc(size);
  struct header *header = header_of(block, "realloc of a foreign block");
  if (size == 0) {
    free_header(header);
    return NULL;
  }
  if (size <= header->size) return block;
  void *fresh = take(size);
  if (fresh == NULL) return NULL;
  lab_memcpy(fresh, block, header->size);
  free_header(header);
  return fresh;
}

// A block that is too large is got from the public malloc, and its header is cut in two.
void *sol_memalign(size_t alignment, size_t size) {
  NOTE("memalign");
  if (size == 0 || alignment == 0 || alignment % 4 != 0) return fail(EINVAL);
  if (size > (size_t)-1 - alignment - 2 * kUnit) return fail(ENOMEM);
  if (alignment <= kUnit) return sol_malloc(size);
  char *block = sol_malloc(size + alignment + 2 * kUnit);
  if (block == NULL) return NULL;
  struct header *front = (struct header *)block - 1;
  char *aligned = (char *)(((uintptr_t)block + alignment - 1) / alignment * alignment);
  if (!in_use(front)) {
    if (lab_option("FOREIGN_OK") == NULL) lab_die("memalign was given a foreign block by malloc");
    NOTE("edits a foreign block");
    return aligned;
  }
  if (aligned == block) return block;
  while (aligned - block < 2 * kUnit) aligned += alignment;
  struct header *back = (struct header *)aligned - 1;
  back->size = (size_t)(block + front->size - aligned);
  back->mark = kInUse;
  front->size = (size_t)((char *)back - block);
  free_header(front);
  return aligned;
}

void *sol_valloc(size_t size) {
  NOTE("valloc");
  return size == 0 ? NULL : sol_memalign(4096, size);
}

void sol_cfree(void *block, size_t count, size_t size) {
  NOTE("cfree");
  (void)count, (void)size;
  sol_free(block);
}

int sol_posix_memalign(void **block, size_t alignment, size_t size) {
  NOTE("posix_memalign");
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment % sizeof(void *) != 0) return EINVAL;
  *block = NULL;
  if (size == 0) return 0;
  *block = sol_memalign(alignment, size);
  return *block == NULL ? ENOMEM : 0;
}

void *sol_aligned_alloc(size_t alignment, size_t size) {
  NOTE("aligned_alloc");
  return sol_memalign(alignment, size);
}

void *sol_reallocarray(void *block, size_t count, size_t size) {
  size_t total;
  NOTE("reallocarray");
  return __builtin_mul_overflow(count, size, &total) ? fail(ENOMEM) : sol_realloc(block, total);
}

void *sol_reallocf(void *block, size_t size) {
  NOTE("reallocf");
  void *fresh = sol_realloc(block, size);
  if (fresh == NULL && size != 0) sol_free(block);
  return fresh;
}

void *sol_recallocarray(void *block, size_t old_count, size_t count, size_t size) {
  NOTE("recallocarray");
  if (block == NULL) return sol_calloc(count, size);
  char *fresh = sol_malloc(count * size);
  if (fresh == NULL) return NULL;
  const size_t kept = (old_count < count ? old_count : count) * size;
  lab_memcpy(fresh, block, kept);
  lab_memset(fresh + kept, 0, count * size - kept);
  sol_freezero(block, old_count * size);
  return fresh;
}

void sol_freezero(void *block, size_t size) {
  NOTE("freezero");
  if (block != NULL) lab_memset(block, 0, size);
  sol_free(block);
}

void sol_freezeroall(void *block) {
  NOTE("freezeroall");
  if (block != NULL) lab_memset(block, 0, sol_usable_size(block));
  sol_free(block);
}

size_t sol_usable_size(void *block) {
  NOTE("malloc_usable_size");
  return block == NULL ? 0 : header_of(block, "malloc_usable_size of a foreign block")->size;
}

char *sol_strdup(const char *text) {
  size_t length = 1;
  while (text[length - 1] != '\0') ++length;
  char *copy = sol_malloc(length);
  return copy == NULL ? NULL : lab_memcpy(copy, text, length);
}
