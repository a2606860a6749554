say class bash -c 'for f in lzip plzip; do od -An -tx1 -j4 -N1 $(readlink -f $(command -v $f)); done'
tar -C /usr/include --sort=name --mtime=@0 --owner=0 --group=0 -cf all.tar . 
say lzip bash -c 'head -c 12000000 all.tar | lzip -3 | tee a.lz | sha256sum; lzip -t -v a.lz 2>&1 | tail -n 1; lzip -d < a.lz | cmp - <(head -c 12000000 all.tar) && echo equal'
say lzip-9 bash -c 'head -c 3000000 all.tar | lzip -9 | lzip -d | sha256sum'
say plzip bash -c 'plzip -4 -n 4 -c all.tar | tee b.lz | sha256sum; plzip -n 4 -d < b.lz | cmp - all.tar && echo equal'
say list bash -c 'lzip -l a.lz; plzip -l b.lz'
say errors bash -c 'head -c 1000 a.lz | lzip -d | wc -c; plzip -t /bin/true; lzip --nothing'
