# Keeps one private engine and cleans up after it, whatever happens to the test process.
#
# Two shells. The outer one is the guard: it makes the directory, waits for the namespaces to end, and
# removes what outlives them (the directory, the cgroups). The inner one is PID 1 of the pid namespace
# and reads commands from a pipe that only the test process holds open. When that process ends, by
# whatever death, the pipe ends, PID 1 ends, and the kernel ends everything in the namespace with it:
# dockerd, containerd, shims, containers, and every mount, as those are private too.
#
# Usage: bash -c "$THIS" guard "$THIS" HIERARCHY
# The second copy is what PID 1 runs, as "init DIR HIERARCHY". A HIERARCHY of cgroup2 gives the engine cgroup v2,
# also where the machine itself has v1: what is mounted is the namespace's own affair.

guard() {
    trap : HUP INT TERM # whatever ends the rest, this stays to clean up
    dir=$(mktemp -d "${TMPDIR:-/tmp}/dw.XXXXXX") || exit 1
    unshare --net --mount --pid --fork --kill-child bash -c "$1" init "$dir" "$2"
    exec 2>/dev/null
    unshare --mount bash -c "$1" clean "$dir" "$2"
}

clean() {
    dir=$1
    hierarchy "$2"
    for _ in {1..100}; do
        left=
        for cgroup in /sys/fs/cgroup/"${dir##*/}" /sys/fs/cgroup/*/"${dir##*/}"; do
            [ -d "$cgroup" ] || continue
            find "$cgroup" -depth -type d -exec rmdir {} \;
            [ -d "$cgroup" ] && left=1
        done
        rm -rf --one-file-system "$dir"
        [ -z "$left" ] && [ ! -e "$dir" ] && exit 0
        sleep 0.05
    done
    exit 1
}

hierarchy() {
    [ "$1" != cgroup2 ] || { umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup; }
}

init() {
    dir=$1
    read -r pid _ </proc/self/stat # still the old /proc: our pid as the outside counts it
    resolv=$(readlink -m /etc/resolv.conf)
    mount -t proc proc /proc &&
        mount -t tmpfs tmpfs /run && # no way to the machine's own sockets
        mkdir "$dir/data" && mount -t tmpfs tmpfs "$dir/data" &&
        hierarchy "$2" &&
        ip link set lo up || exit 1
    mkdir -p "${resolv%/*}" && : >>"$resolv" # it may have pointed into /run
    echo '{}' >"$dir/daemon.json"            # the machine's daemon.json is none of our business
    exec 2>>"$dir/dockerd.log"
    echo "$pid $dir"
    # Each command answers with exactly one line and never blocks for long.
    while IFS= read -r line; do eval "$line"; done
    # A frozen process doesn't die before it is thawed (cgroup v1), and without it the namespace neither.
    kill -KILL -1
    find /sys/fs/cgroup/freezer/"${dir##*/}" -name freezer.state |
        while IFS= read -r state; do echo THAWED >"$state"; done
}

# start FLAGS...: a dockerd in the background. After a SIGKILL the last one's containerd may linger:
# the new dockerd would wait for it, then give up.
start() {
    if alive >/dev/null; then
        echo already
        return
    fi
    c=$(cat "$dir/exec/containerd/containerd.pid" 2>/dev/null)
    if [ -n "$c" ] && [ "$(cat "/proc/$c/comm" 2>/dev/null)" = containerd ]; then
        kill -KILL "$c"
        for _ in {1..200}; do [ -d "/proc/$c" ] && sleep 0.01 || break; done
    fi
    rm -f "$dir"/exec/containerd/containerd.{pid,sock,sock.ttrpc} "$dir"/{d.pid,d.sock}
    dockerd "$@" </dev/null >>"$dir/dockerd.log" 2>&1 &
    dockerd=$!
    disown "$dockerd" # no job notices; bash as PID 1 reaps it all the same
    echo started
}

signal() {
    if ! kill "-$1" "$dockerd"; then
        echo gone
        return
    fi
    # Threads stop one by one, and the last one may still answer a request.
    while [ "$1" = STOP ] && grep -hs '^State:' "/proc/$dockerd"/task/*/status | grep -qv T; do :; done
    echo sent
}

alive() { [ -n "$dockerd" ] && kill -0 "$dockerd" 2>/dev/null && echo yes || { echo no; return 1; }; }

case $0 in
guard) guard "$@" ;;
clean) clean "$@" ;;
init) init "$@" ;;
esac
