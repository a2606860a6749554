/* The runtime linker of a laboratory that one has chrooted into: it gives the process to main.py.

   The kernel starts it as the interpreter of each of the laboratory's programs. The environment goes along as
   arguments, so that nothing of it reaches the runtime linker of the Python that main.py runs in. No C library: the
   auxiliary vector is that of the program, which such a library would take for its own. */

#define AT_NULL 0
#define AT_EXECFN 31
#define MOST 8192

static char *arguments[MOST];
static char number[12];

#ifdef __x86_64__
#define EXECVE 59
#define EXIT 60
static long call(long which, const void *one, const void *two, const void *three)
{
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(which), "D"(one), "S"(two), "d"(three)
                     : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call begin\n hlt\n");
#else
#define EXECVE 11
#define EXIT 1
static long call(long which, const void *one, const void *two, const void *three)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(which), "b"(one), "c"(two), "d"(three) : "memory");
    return result;
}
__asm__(".globl _start\n_start: mov %esp, %eax\n and $-16, %esp\n sub $12, %esp\n push %eax\n call begin\n hlt\n");
#endif

__attribute__((used)) void begin(long *stack)
{
    static char *fixed[] = {"/laboratory/bin/python3", "-I", "-S", "-B", "/laboratory/main.py"};
    static char *nothing[] = {0};
    char **given = (char **)(stack + 1), **environment = given + stack[0] + 1, **end = environment;
    char *digit = number + sizeof number - 1;
    long place = 0, count = stack[0];

    while (*end)
        ++end;
    for (long *vector = (long *)(end + 1); vector[0] != AT_NULL; vector += 2)
        if (vector[0] == AT_EXECFN)
            arguments[5] = (char *)vector[1];
    do
        *--digit = (char)('0' + count % 10);
    while ((count /= 10) != 0);
    for (; place < 5; ++place)
        arguments[place] = fixed[place];
    arguments[6] = digit;
    for (place = 7; *given && place < MOST - 1; ++given)
        arguments[place++] = *given;
    for (; *environment && place < MOST - 1; ++environment)
        arguments[place++] = *environment;
    call(EXECVE, fixed[0], arguments, nothing);
    call(EXIT, (void *)121, 0, 0);
}
