/* Prints the objects that the runtime linker has loaded into this process, in its order. */
#define _GNU_SOURCE
#include <link.h>
#include <stdio.h>

static int one(struct dl_phdr_info *object, size_t size, void *nothing)
{
    (void)size;
    (void)nothing;
    if (object->dlpi_name[0] != '\0')
        printf("%s\n", object->dlpi_name);
    return 0;
}

int main(void)
{
    dl_iterate_phdr(one, NULL);
    return 0;
}
