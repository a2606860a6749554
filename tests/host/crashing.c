/* With examples/bump_allocator.c: an allocator that loads, and then ends every process that it is in, once the file
   /run/crash is there, or in the mount namespace that the link /run/crash-in names. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void end(void)
{
    char here[64] = "", there[64] = "";
    if (access("/run/crash", F_OK) == 0)
        abort();
    if (readlink("/run/crash-in", there, sizeof there - 1) > 0 &&
        readlink("/proc/self/ns/mnt", here, sizeof here - 1) > 0 && strcmp(here, there) == 0)
        abort();
}
