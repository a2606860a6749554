# What every workload begins with. What `say` writes is compared.
say() { # NAME COMMAND...: what the command prints, messages of the runtime linker included, and how it ends
    local name=$1
    shift
    "$@" > "/result/out/$name" 2>&1
    echo "status $?" >> "/result/out/$name"
}
as_user() { setpriv --reuid 4242 --regid 4242 --clear-groups env HOME=/home/soak "$@"; }
until_ready() { # COMMAND...: wait until it succeeds
    local i
    for i in $(seq 200); do
        "$@" > /dev/null 2>&1 && return
        sleep 0.1
    done
    echo "not ready: $*"
}
mkdir -m 777 /tmp/w
cd /tmp/w || exit 1
