/* Prints the objects that the runtime linker has loaded into this process, in its order; with an argument its map, too. */
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

int main(int argc, char **argv)
{
    (void)argv;
    dl_iterate_phdr(one, NULL);
    if (argc > 1) {
        int c;
        FILE *map = fopen("/proc/self/maps", "r");
        if (map == NULL)
            return 1;
        while ((c = getc(map)) != EOF)
            putchar(c);
        fclose(map);
    }
    return 0;
}
