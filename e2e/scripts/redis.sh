start() { redis-server --port 0 --unixsocket /tmp/w/s --dir /tmp/w --save '' --daemonize no --enable-debug-command yes --appendonly no --io-threads 2 > log 2>&1 & }
cli() { redis-cli -s /tmp/w/s "$@"; }
export -f cli
start
until_ready cli ping
for name in set get incr lpush rpush lpop sadd hset spop zadd mset lrange_100; do
    say "benchmark-$name" bash -c "redis-benchmark -s /tmp/w/s -n 4000 -c 20 -P 4 --threads 2 --csv -t $name | cut -d, -f1"
done
cli flushall > /dev/null
say fill bash -c 'for i in $(seq 4000); do echo "SET key:$i $(printf "%0$((i % 400))d" $i)"; echo "ZADD z $i member$i"; echo "HSET h$((i % 50)) f$i v$i"; done | redis-cli -s /tmp/w/s --pipe'
say lua cli eval 'local s = 0 for i = 1, 100000 do s = s + #(redis.call("get", "key:" .. (i % 4000 + 1)) or "") end return s' 0
say digest cli debug digest
say save bash -c 'cli bgsave; for i in $(seq 100); do cli info persistence | grep -q "rdb_bgsave_in_progress:0" && break; sleep 0.1; done; cli info persistence | grep rdb_last_bgsave_status'
say defrag bash -c 'cli memory purge; cli memory doctor'
say stop cli shutdown save
wait %1
echo "the server ended with $?"
start
until_ready cli ping
say again cli debug digest
say check redis-check-rdb dump.rdb
say stop-again cli shutdown nosave
wait %2
echo "the second ended with $?"
say log bash -c "grep -ciE 'crash|bug report|assert' log"
