// dlopen(3C) and its relatives as the ld.so.1 of Solaris has them, over the objects that Linux' loader has mapped.
//
// The list that is shown is Solaris': its struct, its l_addr (the lowest address, also of a program with fixed addresses), the
// program's path as a name, dynamic sections as they are in the file, and no ld.so and no libc of Linux in it.
//
// An object's initialiser is its function lab_initialise: run by its constructor, or, if that is later, when a symbol of the
// object is bound, as ld.so.1 does; LAB_INITIALISE_IN=dladdr1 (or dlopen, dlsym) runs those of all objects in that function.

#include "lab.h"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

#define RTLD_SOL_LAZY 0x1
#define RTLD_SOL_NOW 0x2
#define RTLD_SOL_NOLOAD 0x4
#define RTLD_SOL_FIRST 0x2000

struct sol_link_map {
  unsigned long l_addr;
  char *l_name;
  void *l_ld;
  struct sol_link_map *l_next, *l_prev;
  char *l_refname;
};

struct sol_dl_info {
  const char *dli_fname;
  void *dli_fbase;
  const char *dli_sname;
  void *dli_saddr;
};

void *sol_dlopen(const char *, int) PUBLIC(dlopen);
void *sol_dlsym(void *, const char *) PUBLIC(dlsym);
char *sol_dlerror(void) PUBLIC(dlerror);
int sol_dladdr1(void *, struct sol_dl_info *, void **, int) PUBLIC(dladdr1);
void lab_run_initialiser(void (*)(void)) PUBLIC(lab_run_initialiser);

enum { kObjects = 48, kTags = 64 };

struct object {
  struct sol_link_map map;  // first: a handle and a list member are the same address
  const struct link_map *real;
  uintptr_t low, high, bias;
  ElfW(Dyn) dynamic[kTags];
  const char *soname, *strings;
  const ElfW(Sym) *symbols;
  size_t symbol_count;
  void (*initialiser)(void);
  int initialised;
};

LOCAL int lab_linker_lock;
static struct object objects[kObjects];
static size_t object_count;
static const char *message;

static void set_range(struct object *object) {
  const ElfW(Phdr) *header;
  size_t count;
  if (object->real == _r_debug.r_map) {
    header = (const ElfW(Phdr) *)getauxval(AT_PHDR);
    count = getauxval(AT_PHNUM);
  } else {
    const ElfW(Ehdr) *start = (const ElfW(Ehdr) *)object->real->l_addr;
    header = (const ElfW(Phdr) *)((const char *)start + start->e_phoff);
    count = start->e_phnum;
  }
  object->low = UINTPTR_MAX;
  for (; count > 0; --count, ++header) {
    if (header->p_type != PT_LOAD) continue;
    const uintptr_t low = (object->bias + header->p_vaddr) & ~(uintptr_t)4095;
    const uintptr_t high = object->bias + header->p_vaddr + header->p_memsz;
    if (low < object->low) object->low = low;
    if (high > object->high) object->high = high;
  }
}

static size_t count_symbols(const uint32_t *hash, const uint32_t *gnu_hash) {
  if (hash != NULL) return hash[1];
  if (gnu_hash == NULL) return 0;
  const uint32_t *bucket = gnu_hash + 4 + gnu_hash[2] * (sizeof(uintptr_t) / 4);
  const uint32_t *chain = bucket + gnu_hash[0];
  uint32_t last = 0;
  for (uint32_t i = 0; i < gnu_hash[0]; ++i)
    if (bucket[i] > last) last = bucket[i];
  if (last < gnu_hash[1]) return gnu_hash[1];
  while ((chain[last - gnu_hash[1]] & 1) == 0) ++last;
  return last + 1;
}

// The dynamic section as Solaris leaves it; Linux has added the address to some of its entries.
static void read_dynamic(struct object *object) {
  const uint32_t *hash = NULL, *gnu_hash = NULL;
  ElfW(Sxword) soname = -1;
  size_t i;
  for (i = 0; i + 1 < kTags && object->real->l_ld[i].d_tag != DT_NULL; ++i) {
    ElfW(Dyn) entry = object->real->l_ld[i];
    // Linux' vdso is mapped read-only, and so not changed.
    const void *address = (const void *)(entry.d_un.d_ptr + (entry.d_un.d_ptr < object->bias ? object->bias : 0));
    switch (entry.d_tag) {
      case DT_STRTAB: object->strings = address; break;
      case DT_SYMTAB: object->symbols = address; break;
      case DT_HASH: hash = address; break;
      case DT_GNU_HASH: gnu_hash = address; break;
      case DT_SONAME: soname = (ElfW(Sxword))entry.d_un.d_val; break;
      default: break;
    }
    switch (entry.d_tag) {
      case DT_PLTGOT: case DT_HASH: case DT_STRTAB: case DT_SYMTAB: case DT_RELA: case DT_REL: case DT_JMPREL:
      case DT_VERSYM: case DT_GNU_HASH: case DT_VERNEED: case DT_VERDEF: case DT_INIT_ARRAY: case DT_FINI_ARRAY:
        if (entry.d_un.d_ptr >= object->bias) entry.d_un.d_ptr -= object->bias;
        break;
      default: break;
    }
    object->dynamic[i] = entry;
  }
  object->dynamic[i].d_tag = DT_NULL;
  object->soname = soname < 0 ? "" : object->strings + soname;
  object->symbol_count = count_symbols(hash, gnu_hash);
}

// Like ld.so.1, by name alone: versions are judged when an object is loaded. An old version (hidden) is no candidate.
static void *find_in(const struct object *object, const char *name) {
  for (size_t i = 1; i < object->symbol_count; ++i) {
    const ElfW(Sym) *symbol = object->symbols + i;
    if (symbol->st_shndx == SHN_UNDEF || ELF32_ST_BIND(symbol->st_info) == STB_LOCAL || symbol->st_value == 0) continue;
    if (ELF32_ST_TYPE(symbol->st_info) == STT_TLS) continue;
    if (lab_equal(object->strings + symbol->st_name, name)) return (void *)(object->bias + symbol->st_value);
  }
  return NULL;
}

static int is_of_linux(const struct object *object) {
  static const char *const names[] = {"libc.so.6", "ld-linux-x86-64.so.2", "ld-linux.so.2", "linux-vdso.so.1",
                                      "linux-gate.so.1"};
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i)
    if (lab_equal(object->soname, names[i])) return 1;
  return 0;
}

static struct object *known(const struct link_map *real) {
  for (size_t i = 0; i < object_count; ++i)
    if (objects[i].real == real) return &objects[i];
  return NULL;
}

// With the lock held: brings the list up to date. Objects stay where they are once they are known.
static void refresh(void) {
  struct object *last = NULL;
  for (const struct link_map *real = _r_debug.r_map; real != NULL; real = real->l_next) {
    struct object *object = known(real);
    if (object == NULL) {
      if (object_count == kObjects) lab_die("too many objects");
      object = &objects[object_count];
      lab_memset(object, 0, sizeof *object);
      object->real = real;
      object->bias = real->l_addr;
      read_dynamic(object);
      if (is_of_linux(object)) continue;
      set_range(object);
      object->map.l_addr = object->low;
      object->map.l_name = real == _r_debug.r_map ? (char *)lab_program() : real->l_name;
      object->map.l_ld = object->dynamic;
      object->initialiser = (void (*)(void))find_in(object, "lab_initialise");
      ++object_count;
    }
    object->map.l_prev = last == NULL ? NULL : &last->map;
    object->map.l_next = NULL;
    if (last != NULL) last->map.l_next = &object->map;
    last = object;
  }
}

static struct object *at_address(const void *address) {
  for (size_t i = 0; i < object_count; ++i)
    if ((uintptr_t)address >= objects[i].low && (uintptr_t)address < objects[i].high) return &objects[i];
  return NULL;
}

LOCAL const char *lab_object_name(const void *address) {
  // No lock: notes are written with it held as well.
  for (const struct link_map *real = _r_debug.r_map; real != NULL; real = real->l_next) {
    struct object *object = known(real);
    if (object != NULL && (uintptr_t)address >= object->low && (uintptr_t)address < object->high)
      return real == _r_debug.r_map ? "program" : lab_base(real->l_name);
  }
  lab_lock(&lab_linker_lock);
  refresh();
  struct object *object = at_address(address);
  lab_unlock(&lab_linker_lock);
  if (object == NULL) return "Linux";
  return object->real == _r_debug.r_map ? "program" : lab_base(object->real->l_name);
}

static void initialise(struct object *object) {
  if (object == NULL || object->initialiser == NULL || __atomic_exchange_n(&object->initialised, 1, __ATOMIC_ACQ_REL)) return;
  object->initialiser();
}

// For constructors: runs it unless it was run before.
void lab_run_initialiser(void (*initialiser)(void)) {
  lab_lock(&lab_linker_lock);
  refresh();
  struct object *object = at_address((const void *)initialiser);
  lab_unlock(&lab_linker_lock);
  initialise(object);
}

static void initialise_in(const char *function) {
  const char *option = lab_option("INITIALISE_IN");
  if (option == NULL || !lab_equal(option, function)) return;
  for (size_t i = 0; i < object_count; ++i) initialise(&objects[i]);
}

static void enter(void) {
  lab_lock(&lab_linker_lock);
  refresh();
  lab_unlock(&lab_linker_lock);
}

int sol_dladdr1(void *address, struct sol_dl_info *information, void **extra, int what) {
  NOTE("dladdr1");
  if (what != 2) lab_die("dladdr1: not RTLD_DL_LINKMAP");
  if (lab_option("NO_LIST") != NULL) return 0;
  enter();
  initialise_in("dladdr1");
  struct object *object = at_address(address);
  if (object == NULL) return 0;
  information->dli_fname = object->map.l_name;
  information->dli_fbase = (void *)object->low;
  information->dli_sname = NULL;
  information->dli_saddr = NULL;
  *extra = &object->map;
  return 1;
}

void *sol_dlopen(const char *name, int mode) {
  NOTE("dlopen %s %#x", name, mode);
  if ((mode & ~(RTLD_SOL_LAZY | RTLD_SOL_NOW | RTLD_SOL_NOLOAD | RTLD_SOL_FIRST)) != 0) lab_die("dlopen: an unknown mode");
  if ((mode & RTLD_SOL_NOLOAD) == 0) lab_die("dlopen: loads an object");
  if ((mode & RTLD_SOL_FIRST) == 0) lab_die("dlopen: a handle that searches dependencies");
  enter();
  initialise_in("dlopen");
  for (size_t i = 0; i < object_count; ++i)
    if (lab_equal(objects[i].map.l_name, name) || lab_equal(lab_base(objects[i].map.l_name), name)) return &objects[i];
  message = "no such file";
  return NULL;
}

void *sol_dlsym(void *handle, const char *name) {
  const intptr_t special = (intptr_t)handle;
  NOTE("dlsym %s %s", special == -1   ? "RTLD_NEXT"
                      : special == -2 ? "RTLD_DEFAULT"
                      : special == -3 ? "RTLD_SELF"
                      : special == -4 ? "RTLD_PROBE"
                                      : lab_base(((struct object *)handle)->map.l_name),
       name);
  if (handle == NULL) lab_die("dlsym: a null handle");
  if (special <= -1 && special >= -3) lab_die("dlsym: this would load lazy dependencies if the name is not there");
  enter();
  initialise_in("dlsym");
  struct object *object = NULL;
  void *address = NULL;
  if (special == -4) {
    for (struct sol_link_map *map = &known(_r_debug.r_map)->map; map != NULL && address == NULL; map = map->l_next) {
      object = (struct object *)map;
      address = find_in(object, name);
    }
  } else {
    object = handle;
    address = find_in(object, name);
  }
  if (address == NULL)
    message = "no such symbol";
  else
    initialise(object);
  return address;
}

char *sol_dlerror(void) {
  char *told = (char *)message;
  NOTE("dlerror");
  message = NULL;
  return told;
}
