// A dependency whose fini, after all others' of the process, still uses the family.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *kept;

__attribute__((constructor)) static void start(void) { kept = strcpy(malloc(100), "kept"); }

__attribute__((destructor)) static void stop(void) {
  char *other = calloc(10, 10);
  kept = realloc(kept, 2000);
  if (other != NULL && kept != NULL && strcmp(kept, "kept") == 0) write(1, "late\n", 5);
  free(kept);
  free(other);
}

void late_object(void) {}
