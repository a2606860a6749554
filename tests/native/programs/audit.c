// An auditing library (LD_AUDIT), which allocates whenever it is asked.
#define _GNU_SOURCE
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static char *kept;

unsigned la_version(unsigned version) {
  kept = malloc(100);
  return version < LAV_CURRENT ? version : LAV_CURRENT;
}

unsigned la_objopen(struct link_map *object, Lmid_t list, uintptr_t *cookie) {
  kept = realloc(kept, strlen(object->l_name) + 1);
  strcpy(kept, object->l_name);
  return cookie == NULL || list < 0 ? 0 : LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

#if UINTPTR_MAX > 0xffffffffu
uintptr_t la_symbind64(Elf64_Sym *symbol, unsigned index, uintptr_t *from, uintptr_t *to, unsigned *flags, const char *name) {
#else
uintptr_t la_symbind32(Elf32_Sym *symbol, unsigned index, uintptr_t *from, uintptr_t *to, unsigned *flags, const char *name) {
#endif
  free(strdup(name));
  return symbol->st_value;
}
