mkdir www
cp -r /usr/include/c++/12/bits www/
head -c 300000 /usr/bin/perl > www/binary
cat > nginx.conf <<'EOF'
worker_processes 2; daemon off; pid /tmp/w/pid; error_log /tmp/w/error notice; user www-data;
events { worker_connections 200; }
http {
    access_log /tmp/w/access; gzip on; gzip_types *; gzip_min_length 100; server_tokens off;
    server { listen 127.0.0.1:8080; root /tmp/w/www; autoindex on; }
    server { listen 127.0.0.1:8081; location / { proxy_pass http://127.0.0.1:8080; proxy_buffer_size 4k; } }
}
EOF
chmod 755 /tmp/w
say test nginx -t -c /tmp/w/nginx.conf
nginx -c /tmp/w/nginx.conf 2> /dev/null &
until_ready curl -s http://127.0.0.1:8080/
get() { find www -type f | sort | sed "s#^www#http://127.0.0.1:$1#" | xargs -n 20 -P "$2" curl -s ${3:+--compressed}; }
say plain bash -c "$(declare -f get); get 8080 1 | sha256sum"
say gzip bash -c "$(declare -f get); get 8080 1 c | sha256sum"
say proxy bash -c "$(declare -f get); get 8081 1 c | sha256sum"
say parallel bash -c "$(declare -f get); get 8081 4 | wc -c; get 8080 4 c | wc -c"
say range curl -s -r 1000-1200,5000-5100 -o /dev/null -w '%{http_code} %{content_type}' http://127.0.0.1:8080/bits/regex.h
say missing curl -s -w '%{http_code}' http://127.0.0.1:8081/nothing
say binary bash -c 'curl -s http://127.0.0.1:8081/binary | cmp - www/binary && echo equal'
nginx -c /tmp/w/nginx.conf -s reload 2> /dev/null
say reloaded bash -c "$(declare -f get); get 8081 4 | wc -c"
nginx -c /tmp/w/nginx.conf -s quit 2> /dev/null
wait %1
echo "the server ended with $?"
say access bash -c "awk '{ print \$9 }' access | sort | uniq -c"
say errors bash -c "grep -ciE 'signal 11|signal 6|alert|emerg|exited on' error"
