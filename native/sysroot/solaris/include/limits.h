/* What the compiler's own <limits.h> cannot know (man: limits.h(3HEAD)). */
#ifndef _SOLARIS_LIMITS_H
#define _SOLARIS_LIMITS_H

#include_next <limits.h>

#define PATH_MAX 1024 /* including the final null byte */
#define SSIZE_MAX LONG_MAX

#endif
