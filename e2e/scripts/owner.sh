# SERVES is the allocator that has to serve each block: glibc, jemalloc, mimalloc or tcmalloc.
cat > judge.py <<'EOF'
import json, os, sys
report = json.loads(sys.stdin.read().strip().splitlines()[-1])
each = report.get("each", report)
wrong = {name: owner for name, owner in each.items() if owner != os.environ["SERVES"]}
print(f"{len(each)} ways to get memory, served by another than the one that ought to: {wrong}")
EOF
native=/mnt/checkout/native programs=/mnt/checkout/tests/native/programs
for bits in 64 32; do
    gcc -m$bits -w $native/served.c -o served$bits
    g++ -m$bits -w -I$native -c $programs/operators.cc -std=c++17 -o operators$bits.o
    gcc -m$bits -w -I$native -c $programs/owner.c -o owner$bits.o
    g++ -m$bits operators$bits.o owner$bits.o -pthread -o operators$bits
    for program in served operators; do
        say $program$bits bash -c "set -o pipefail; ./$program$bits | python3 judge.py"
    done
done
