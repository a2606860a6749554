printf '#include <stdlib.h>\n#include <stdio.h>\nint main(void) { char *p = malloc(3000); if (p == NULL) return 9; p[2999] = 1; free(p); return 0; }\n' > one.c
gcc -m64 one.c -o one64
gcc -m32 one.c -o one32
say true bash -c 'seq 10000 | xargs -n 1 /bin/true; echo all ${PIPESTATUS[*]}'
say one32 bash -c 'for i in $(seq 2000); do ./one32 || echo "$i: $?"; done; echo all'
say one64 bash -c 'for i in $(seq 2000); do ./one64 || echo "$i: $?"; done; echo all'
say itself bash -c 'cat > again.sh <<"EOF"
[ "$1" -gt 0 ] || { echo end; exit 0; }
exec bash again.sh $(($1 - 1))
EOF
bash again.sh 1000'
say perl perl -e 'my $bad = 0; for (1..1000) { system("/bin/true") == 0 or $bad++ } print "$bad\n"'
