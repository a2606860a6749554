# SERVES is the allocator that has to serve each block: glibc, jemalloc, mimalloc or tcmalloc.
cat > judge.py <<'EOF'
import json, os, sys
report = json.loads(sys.stdin.read().strip().splitlines()[-1])
each = report.get("each", report)
wrong = {name: owner for name, owner in each.items() if owner != os.environ["SERVES"]}
print(f"at least 9 ways to get memory: {len(each) >= 9}, served by another than the one that ought to: {wrong}")
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

# Real programs in C++, each with a witness in it: what libc's heap and the custom allocator got, by their own accounts.
cat > account.py <<'EOF'
import os, sys
lines = [line.split() for line in open(os.environ["WITNESS"])]
for name in sorted({line[0] for line in lines}):
    libc = max(int(line[1]) for line in lines if line[0] == name)
    custom = max(int(line[2]) for line in lines if line[0] == name)
    print(f"{name}: libc {libc}, custom {custom}", file=sys.stderr)
    right, wrong = (libc, custom) if os.environ["SERVES"] == "glibc" else (custom, libc)
    print(f"{name}: of the one that ought to: {right > 0}, of the other: {wrong} bytes")
EOF
witnessed() { WITNESS=/tmp/w/account$bits LD_PRELOAD=/tmp/w/witness$bits.so "$@"; }
head -c 3000000 $(command -v perl) > data
cat > real.cc <<'EOF'
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <thread>
#include <vector>
int main() {
  std::vector<std::thread> all;
  for (int n = 0; n < 4; ++n) all.emplace_back([n] {
    std::map<std::string, std::vector<int>> m;
    for (int i = 0; i < 20000; ++i) m["a key that is no short string " + std::to_string(i % 997)].push_back(i * n);
  });
  for (auto &one : all) one.join();
  std::cout << std::regex_match("aaaaab", std::regex("(a+)+b")) << std::endl;
}
EOF
cc1plus=$(g++ -print-prog-name=cc1plus)
for bits in 64 32; do
    gcc -m$bits -shared -fPIC -O1 /mnt/checkout/e2e/witness.c -o witness$bits.so
    g++ -m$bits -O1 -pthread real.cc -o real$bits
    witnessed ./real$bits
done
bits=64
witnessed $cc1plus -quiet -O2 -std=c++17 -imultiarch x86_64-linux-gnu -D_GNU_SOURCE real.cc -o real.s
witnessed node -e 'console.log([...Array(100000).keys()].map(String).join("").length)'
bits=32
witnessed lzip -k -c data | sha256sum
witnessed plzip -n 3 -k -c data | lzip -t
for bits in 64 32; do
    WITNESS=/tmp/w/account$bits
    export WITNESS
    python3 account.py > /result/out/account$bits 2> /result/account$bits
done
