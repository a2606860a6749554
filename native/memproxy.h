/* What libmemproxy.so says of itself in a process: which route memory takes, why, and which object serves it.
 *
 * A program that is to run without the library as well looks the functions up with dlsym(RTLD_DEFAULT, "memproxy_route").
 * A tool outside finds the record through the dynamic symbol memproxy_record, or by its magic bytes in the library's writable
 * segment; its layout is the same for 32-bit and 64-bit processes. Later versions append to it. */
#ifndef MEMPROXY_H
#define MEMPROXY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MEMPROXY_RECORD_MAGIC "memproxy" /* eight bytes, without a terminator */
#define MEMPROXY_RECORD_VERSION 1
#define MEMPROXY_RECORD_PATH 1024

enum memproxy_state {
  MEMPROXY_STATE_START = 0, /* nobody has asked for memory yet */
  MEMPROXY_STATE_RESOLVING = 1,
  MEMPROXY_STATE_READY = 2 /* the fields below are final */
};

enum memproxy_route_number { MEMPROXY_ROUTE_SYSTEM = 0, MEMPROXY_ROUTE_CUSTOM = 1 };

/* Why the route is what it is, and the word that memproxy_reason() has for it. */
enum memproxy_reason_number {
  MEMPROXY_REASON_UNDECIDED = 0,    /* "undecided": state is not yet ready */
  MEMPROXY_REASON_DEFAULT = 1,      /* "default": no line of the list matches */
  MEMPROXY_REASON_LIST = 2,         /* "list": the line in `line` */
  MEMPROXY_REASON_ENVIRONMENT = 3,  /* "environment": MEMPROXY_ROUTE */
  MEMPROXY_REASON_NO_ALLOCATOR = 4, /* "no-allocator": custom was wanted, but no custom allocator is loaded */
  MEMPROXY_REASON_NOT_OWNER = 5,    /* "not-owner": the program or a preload ahead of us defines malloc */
  MEMPROXY_REASON_SANITIZER = 6     /* "sanitizer": custom was wanted, but the program is linked with a sanitizer's malloc */
};

struct memproxy_record {
  char magic[8];
  uint32_t version;
  uint32_t size; /* of this record, in bytes */
  uint32_t state;
  uint32_t route;
  uint32_t reason;
  uint32_t line;                        /* of the exclusion list, counted from 1; 0: none matched */
  char allocator[MEMPROXY_RECORD_PATH]; /* path of the object that serves malloc, cut to fit, always terminated */
};

extern struct memproxy_record memproxy_record;

/* "system" or "custom". Decides it if nobody has asked for memory yet. */
const char *memproxy_route(void);

/* Path of the object that serves malloc, whole; a null pointer if it is not known. */
const char *memproxy_allocator(void);

/* One of the words above. */
const char *memproxy_reason(void);

#ifdef __cplusplus
}
#endif

#endif
