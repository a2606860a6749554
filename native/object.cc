// The linker's list of objects and ELF symbol look-up in one of them.
//
// Layout of tables and hash functions: ELF specification (System V ABI, chapter 5) and, for DT_GNU_HASH, the GNU tool
// chain. Addresses: glibc relocates those in the dynamic section where it can write there, Solaris does not; Solaris gives
// the lowest mapped address of an executable with fixed addresses as its l_addr, Linux gives 0. Hence address_of: what
// lies below the object's base must still have it added.

#include "object.h"

#ifndef _GNU_SOURCE
#define _GNU_SOURCE  // dladdr1
#endif
#include <dlfcn.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "platform.h"

namespace {

struct Entry {  // Elf32_Dyn, Elf64_Dyn
  intptr_t tag;
  uintptr_t value;
};
static_assert(sizeof(Entry) == 2 * sizeof(void *), "a dynamic section entry is two words");

#if UINTPTR_MAX > 0xffffffffu
struct Symbol {  // Elf64_Sym
  uint32_t name;
  uint8_t info;
  uint8_t other;
  uint16_t section;
  uint64_t value;
  uint64_t size;
};
static_assert(sizeof(Symbol) == 24, "Elf64_Sym");
#else
struct Symbol {  // Elf32_Sym
  uint32_t name;
  uint32_t value;
  uint32_t size;
  uint8_t info;
  uint8_t other;
  uint16_t section;
};
static_assert(sizeof(Symbol) == 16, "Elf32_Sym");
#endif

enum : intptr_t {
  kTagNeeded = 1,
  kTagHash = 4,
  kTagStrings = 5,
  kTagSymbols = 6,
  kTagSoname = 14,
  kTagGnuHash = 0x6ffffef5,
  kTagVersions = 0x6ffffff0
};

const uint16_t kVersionHidden = 0x8000;

struct Dynamic {
  uintptr_t base;
  const Entry *entries;
  const char *strings;
  const Symbol *symbols;
  const uint32_t *hash;
  const uint32_t *gnu_hash;
  const uint16_t *versions;
  const char *soname;
};

uintptr_t address_of(uintptr_t base, uintptr_t value) { return value < base ? base + value : value; }

template <typename T>
const T *table_at(uintptr_t base, uintptr_t value) {
  return reinterpret_cast<const T *>(address_of(base, value));
}

bool read_dynamic(Object object, Dynamic *dynamic) {
  const Entry *entries = static_cast<const Entry *>(static_cast<const void *>(object->l_ld));
  if (entries == nullptr) return false;
  Dynamic d = {static_cast<uintptr_t>(object->l_addr), entries, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
  const Entry *soname = nullptr;
  for (const Entry *entry = entries; entry->tag != 0; ++entry) {
    switch (entry->tag) {
      case kTagHash: d.hash = table_at<uint32_t>(d.base, entry->value); break;
      case kTagGnuHash: d.gnu_hash = table_at<uint32_t>(d.base, entry->value); break;
      case kTagStrings: d.strings = table_at<char>(d.base, entry->value); break;
      case kTagSymbols: d.symbols = table_at<Symbol>(d.base, entry->value); break;
      case kTagVersions: d.versions = table_at<uint16_t>(d.base, entry->value); break;
      case kTagSoname: soname = entry; break;
      default: break;
    }
  }
  if (d.strings == nullptr || d.symbols == nullptr) return false;
  if (soname != nullptr) d.soname = d.strings + soname->value;
  *dynamic = d;
  return true;
}

// How well a symbol table entry serves as the definition of `name`: 0 not at all, 1 an old version, 2 the default one.
int definition_rank(const Dynamic &dynamic, uint32_t index, const char *name) {
  const Symbol &symbol = dynamic.symbols[index];
  const unsigned type = symbol.info & 15u;
  const unsigned binding = symbol.info >> 4;
  const unsigned visibility = symbol.other & 7u;  // Solaris has three more: exported, singleton, eliminated
  if (symbol.section == 0 || symbol.value == 0) return 0;             // a mere reference
  if (type != 0 && type != 2) return 0;                               // not a function; an indirect one is of no use here
  if (binding == 0) return 0;                                         // local
  if (visibility == 1 || visibility == 2 || visibility == 6) return 0;  // internal, hidden, eliminated
  if (strcmp(dynamic.strings + symbol.name, name) != 0) return 0;
  if (dynamic.versions == nullptr) return 2;
  const uint16_t version = dynamic.versions[index];
  if (version == 0) return 0;  // made local by a version script
  return (version & kVersionHidden) != 0 ? 1 : 2;
}

struct Best {
  int rank;
  uint32_t index;
  void consider(int new_rank, uint32_t new_index) {
    if (new_rank > rank) {
      rank = new_rank;
      index = new_index;
    }
  }
};

void search_gnu_hash(const Dynamic &dynamic, const char *name, Best *best) {
  uint32_t hash = 5381;
  for (const char *c = name; *c != '\0'; ++c) hash = hash * 33 + static_cast<unsigned char>(*c);
  const uint32_t buckets = dynamic.gnu_hash[0];
  const uint32_t first = dynamic.gnu_hash[1];
  const uint32_t bloom_words = dynamic.gnu_hash[2];
  if (buckets == 0) return;
  // The Bloom filter in between, in words of the ABI's size, only saves time.
  const uint32_t *bucket = dynamic.gnu_hash + 4 + bloom_words * (sizeof(uintptr_t) / 4);
  const uint32_t *chain = bucket + buckets;
  uint32_t index = bucket[hash % buckets];
  if (index < first) return;
  for (;; ++index) {
    const uint32_t entry = chain[index - first];
    if ((entry | 1) == (hash | 1)) best->consider(definition_rank(dynamic, index, name), index);
    if ((entry & 1) != 0) break;
  }
}

void search_hash(const Dynamic &dynamic, const char *name, Best *best) {
  uint32_t hash = 0;
  for (const char *c = name; *c != '\0'; ++c) {
    hash = (hash << 4) + static_cast<unsigned char>(*c);
    const uint32_t high = hash & 0xf0000000u;
    hash = (hash ^ (high >> 24)) & ~high;
  }
  const uint32_t buckets = dynamic.hash[0];
  const uint32_t symbols = dynamic.hash[1];
  if (buckets == 0) return;
  const uint32_t *bucket = dynamic.hash + 2;
  const uint32_t *chain = bucket + buckets;
  for (uint32_t index = bucket[hash % buckets]; index != 0 && index < symbols; index = chain[index])
    best->consider(definition_rank(dynamic, index, name), index);
}

const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

size_t directory_length(const char *path) { return static_cast<size_t>(base_name(path) - path); }

}  // namespace

Object object_self() {
  static const char inside = 0;  // any address of ours
  Dl_info information;
  void *map = nullptr;
  // Solaris 10 declares the address without const.
  if (dladdr1(const_cast<char *>(&inside), &information, &map, RTLD_DL_LINKMAP) == 0) return nullptr;
  return static_cast<Object>(map);
}

Object object_first() {
  Object object = object_self();
  while (object != nullptr && object->l_prev != nullptr) object = object->l_prev;
  return object;
}

Object object_next(Object object) { return object->l_next; }

const char *object_path(Object object) { return object->l_name == nullptr ? "" : object->l_name; }

void *object_function(Object object, const char *name, bool old) {
  Dynamic dynamic;
  if (!read_dynamic(object, &dynamic)) return nullptr;
  Best best = {0, 0};
  if (dynamic.gnu_hash != nullptr)
    search_gnu_hash(dynamic, name, &best);
  else if (dynamic.hash != nullptr)
    search_hash(dynamic, name, &best);
  if (best.rank < (old ? 1 : 2)) return nullptr;
  return reinterpret_cast<void *>(address_of(dynamic.base, static_cast<uintptr_t>(dynamic.symbols[best.index].value)));
}

namespace {

struct Search {
  const char *name, *beside;
  void *found;

  bool look_in(Object object) {
    if (object_function(object, beside) != nullptr && !object_has_heap(object))
      found = object_function(object, name);
    return found != nullptr;
  }
};

#ifdef __linux__
int visit(struct dl_phdr_info *information, size_t, void *data) {
  struct link_map object = {};
  object.l_addr = information->dlpi_addr;
  for (unsigned i = 0; i < information->dlpi_phnum; ++i)
    if (information->dlpi_phdr[i].p_type == PT_DYNAMIC)
      object.l_ld = reinterpret_cast<ElfW(Dyn) *>(information->dlpi_addr + information->dlpi_phdr[i].p_vaddr);
  return static_cast<Search *>(data)->look_in(&object);
}
#endif

}  // namespace

void *object_function_anywhere(const char *name, const char *beside) {
  Search search = {name, beside, nullptr};
#ifdef __linux__
  dl_iterate_phdr(visit, &search);
#else
  for (Object object = object_first(); object != nullptr && !search.look_in(object);) object = object_next(object);
#endif
  return search.found;
}

bool object_refers_to(Object object, const char *name) {
  Dynamic dynamic;
  if (!read_dynamic(object, &dynamic)) return false;
  // The GNU hash table begins behind the mere references; the other one holds all symbols.
  const uint32_t end = dynamic.gnu_hash != nullptr ? dynamic.gnu_hash[1] : dynamic.hash != nullptr ? dynamic.hash[1] : 0;
  for (uint32_t index = 1; index < end; ++index) {
    const Symbol &symbol = dynamic.symbols[index];
    if (symbol.section == 0 && strcmp(dynamic.strings + symbol.name, name) == 0) return true;
  }
  return false;
}

bool object_has_heap(Object object) {
  return object_function(object, "malloc") != nullptr || object_function(object, "free") != nullptr;
}

bool object_is_libc(Object object) {
  Dynamic dynamic;
  return read_dynamic(object, &dynamic) && dynamic.soname != nullptr && strcmp(dynamic.soname, kPlatformLibc) == 0;
}

bool object_is_needed(Object object) {
  Dynamic wanted;
  if (!read_dynamic(object, &wanted)) return false;
  const char *file = base_name(object_path(object));
  for (Object other = object_first(); other != nullptr; other = object_next(other)) {
    Dynamic dynamic;
    if (other == object || !read_dynamic(other, &dynamic)) continue;
    for (const Entry *entry = dynamic.entries; entry->tag != 0; ++entry) {
      if (entry->tag != kTagNeeded) continue;
      const char *needed = base_name(dynamic.strings + entry->value);
      if (strcmp(needed, file) == 0) return true;
      if (wanted.soname != nullptr && strcmp(needed, base_name(wanted.soname)) == 0) return true;
    }
  }
  return false;
}

bool object_same_directory(Object one, Object other) {
  const char *a = object_path(one);
  const char *b = object_path(other);
  const size_t length = directory_length(a);
  return length != 0 && length == directory_length(b) && memcmp(a, b, length) == 0;
}
