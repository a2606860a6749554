cat > loops <<'EOF'
count=0; for i in $(seq 3000); do count=$((count + i)); done; echo $count
words=; for i in $(seq 500); do words="$words word$i"; done; set -- $words; echo $# ${words%% word250*}
f() { [ $1 -le 1 ] && echo 1 && return; local a=$(f $(($1 - 1))); echo $((a * $1)); }; f 12
for i in 1 2 3; do (trap "echo child $i ends" EXIT; :); done
seq 20000 | while read n; do case $n in *7*7*) echo $n;; esac; done | wc -l
cat <<END | sed 's/a/b/g'
here $(echo a command) and ${count}
END
false; echo $?; (exit 7); echo $?; kill -TERM $$ 2>/dev/null & wait
EOF
say bash bash -c '. ./loops'
say dash bash -c "sed 's/local //' loops > dloops; dash -c '. ./dloops'"
say arrays bash -c 'declare -A a; for i in {1..5000}; do a[k$i]=$i; done; s=0; for k in "${!a[@]}"; do s=$((s+a[$k])); done; echo ${#a[@]} $s; [[ abc123 =~ ([a-z]+)([0-9]+) ]]; echo ${BASH_REMATCH[2]}; printf "%s\n" "${a[@]:0:0}"; mapfile -t l < /etc/services; echo ${#l[@]}'
say coproc bash -c 'coproc C { tr a-z A-Z; }; echo hello >&${C[1]}; exec {C[1]}>&-; cat <&${C[0]}; diff <(seq 5) <(seq 6)'
say login bash -lc 'ulimit -n; umask; type -t cd; set -o | wc -l'
