export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z' HOME=/tmp/w
git config --global user.name somebody
git config --global user.email somebody@example.org
git config --global core.pager cat
say init git init -q -b main repo
cd repo || exit 1
cp -r /usr/include/c++/12 source
say add git add .
say commit git commit -q -m first
for n in $(seq 15); do
    sed -i "$((n * 3))s/^/\/\/ change $n /" source/bits/stl_*.h
    git commit -q -a -m "change $n"
done
say log git log --stat --format='%H %s'
say blame bash -c 'git blame -s source/bits/stl_vector.h | sha256sum'
say grep bash -c 'git grep -n noexcept | sha256sum'
say gc git gc -q --aggressive
say fsck git fsck --full --strict
say clone git clone -q --no-local . ../clone
say cloned git -C ../clone log -1 --format=%T
say branch bash -c 'git checkout -q -b other HEAD~5 && sed -i 1,9d source/bits/stl_map.h && git commit -q -a -m other && git merge main; git diff; git merge --abort; git rebase main; git rebase --abort; git status --short'
say archive bash -c 'git archive main | sha256sum'
say repack bash -c 'git rev-list --objects --all | git pack-objects --threads=4 -q ../pack | wc -l; git verify-pack ../pack-*.pack'
say apply bash -c 'git format-patch -q -3 main -o ../patches && git checkout -q main~3 && git am -q ../patches/* && git log -1 --format=%T'
say errors git checkout nothing
