cat > load.sql <<'EOF'
pragma cache_size=-64000; pragma journal_mode=wal;
create table t(id integer primary key, a text, b real, c blob);
with recursive n(i) as (select 1 union all select i+1 from n where i < 200000)
  insert into t select i, printf('name %06d', (i * 7919) % 200000), i / 3.0, zeroblob(i % 97) from n;
create index ta on t(a); create virtual table f using fts5(body);
insert into f select a || ' is row ' || id from t where id % 10 = 0;
select count(*), sum(length(c)), round(sum(b), 2), min(a), max(a) from t;
select x.id, y.id from t x join t y on x.a = y.a and x.id < y.id limit 5;
select count(*) from f where f match 'name AND row';
select json_group_array(id) from (select id from t where a like 'name 00001%' order by id);
select id % 10 as g, count(*), group_concat(substr(a, -2), '') from t where id < 200 group by g order by g;
update t set a = upper(a) where id % 3 = 0; delete from t where id % 5 = 0; vacuum; pragma integrity_check;
select count(*) from t;
.schema
EOF
say load bash -c 'sqlite3 -batch all.db < load.sql'
say dump bash -c 'sqlite3 all.db .dump | sha256sum; sqlite3 all.db ".mode csv" "select id, a, b from t" | sha256sum'
say errors sqlite3 all.db 'select nothing from t'
