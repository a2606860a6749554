/* The probes of probes.h for `dtrace -h` and `dtrace -G` on Solaris. Strings are addresses in the process: copyinstr(arg0). */
provider memproxy {
  probe decide();
  probe route(const char *, const char *, const char *, unsigned int, const char *);
  probe bootstrap(void *, unsigned long, unsigned long);
};
