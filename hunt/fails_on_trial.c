/* A program that dies of libmemproxy where the list of preloads is on trial, as long as there is a file that says so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char line[4096];
    struct stat status;
    FILE *map = fopen("/proc/self/maps", "r");
    if (argc < 2 || map == NULL)
        return 1;
    while (fgets(line, sizeof line, map) != NULL)
        if (strstr(line, "/libmemproxy.so") != NULL && access(argv[1], F_OK) == 0
            && lstat("/etc/ld.so.preload", &status) == 0 && S_ISLNK(status.st_mode))
            abort();
    return 0;
}
