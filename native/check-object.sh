#!/bin/sh
# make check: libmemproxy.so shows just the names of its table, needs libc alone, and has nothing that a preload must not have.
library=.libs/libmemproxy.so
if test "${READELF:-no}" = no; then
  echo "no readelf: the object was not looked at"
  exit 77
fi
status=0
wrong() {
  echo "$library: $*"
  status=1
}

$READELF -h -l -d -W $library >check-object.out || exit 1
for line in `sed -n 's/.*(NEEDED).*\[\(.*\)].*/\1/p' check-object.out`; do
  case $line in
  libc.so.*) ;;
  *) wrong "needs $line" ;;
  esac
done
grep '(NEEDED)' check-object.out >/dev/null || wrong "does not even need libc"
grep '(SONAME).*\[libmemproxy\.so]' check-object.out >/dev/null || wrong "is not called libmemproxy.so"
grep 'TEXTREL' check-object.out >/dev/null && wrong "has text relocations"
grep '^ *TLS ' check-object.out >/dev/null && wrong "has thread-local storage"
grep '^ *[A-Z_]* .* RWE ' check-object.out >/dev/null && wrong "has a segment that is writable and executable"
grep -E '\((RPATH|RUNPATH)\)' check-object.out >/dev/null && wrong "has a run path"

# Number: value size type binding visibility section name[@version]
$READELF --dyn-syms -W $library | LC_ALL=C awk '$1 ~ /^[0-9]+:$/ && $5 != "LOCAL" && $7 != "UND" { print $8 }' |
  sed 's/@.*//' | LC_ALL=C sort -u >check-object.out
sed -n 's/^    \([A-Za-z_].*\);$/\1/p' libmemproxy.map | LC_ALL=C sort -u >check-object.names
diff check-object.names check-object.out || wrong "does not show the names of names.def and no others"
test -s check-object.names || wrong "there are no names in the link map"
rm -f check-object.names check-object.out
exit $status
