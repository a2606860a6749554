export PATH=/usr/lib/postgresql/15/bin:$PATH PGHOST=/tmp/w/pg PGUSER=postgres
mkdir -m 700 pg
chown postgres:postgres pg
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
cd pg || exit 1
say initdb as_postgres initdb -D data --no-sync -U postgres -E UTF8 --locale=C.UTF-8
say start as_postgres pg_ctl -D data -l log -w -s -o "-k /tmp/w/pg -c listen_addresses= -c fsync=off -c work_mem=256kB" start
say pgbench-i bash -c 'pgbench -i -q -s 2 postgres 2>&1 | grep -vE "elapsed|^done in"'
say pgbench bash -c 'pgbench -c 6 -j 2 -t 150 postgres 2>&1 | grep -E "actually|failed|ERROR|crash"'
say pgbench-prepared bash -c 'pgbench -M prepared -S -c 4 -j 2 -t 500 postgres 2>&1 | grep -E "actually|failed|ERROR|crash"'
cat > all.sql <<'EOF'
select count(*) from pgbench_history;
select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history) as sums;
create table t as select i, md5(i::text) as h, (i * 7919) % 10007 as k from generate_series(1, 100000) i;
create index on t(h); create index on t using hash(k); analyze t;
select count(*), min(h), max(h) from (select h from t order by h desc offset 10) x;
select k, array_agg(i order by i) from t where k < 3 group by k order by k;
select count(*) from t a join t b on a.k = b.k and a.i < b.i;
create function f(n int) returns numeric language plpgsql as
  $$ declare r numeric := 1; begin for i in 1..n loop r := r * i; end loop; return r; end $$;
select f(200);
select jsonb_object_agg(k, h) -> '7' from t where i < 500;
select regexp_replace(string_agg(h, ' ' order by i), '[0-9]+', '', 'g') from t where i < 20;
do $$ begin raise exception 'on purpose'; exception when others then raise notice '%', sqlerrm; end $$;
begin; update t set h = upper(h) where k % 2 = 0; rollback; vacuum full t; select sum(length(h)) from t;
select nothing;
EOF
say sql psql -X -q -d postgres -f all.sql
say dump bash -c "pg_dump -t t postgres | grep -vE '^.(un)?restrict|^--' | sha256sum"
say stop as_postgres pg_ctl -D data -s -w -m fast stop
say log bash -c "grep -ciE 'terminated by signal|PANIC|crash' log"
