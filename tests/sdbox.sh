#!/bin/sh
# A machine with systemd as its first process, for tests: this machine's files under an overlay
# in memory, with namespaces of its own for processes, mounts, network, IPC, name and cgroups.
# What happens in it is gone with it. Needs root, systemd and util-linux.
#
#   sdbox.sh up DIR           boot; DIR is made, and holds the box; prints the pid of its systemd
#   sdbox.sh run DIR CMD...   run a command in it
#   sdbox.sh down DIR         shut it down and remove DIR
set -eu

verb=$1 box=$2
shift 2

cgroups() { # where systemd's own hierarchy is: named beside version 1, or version 2 alone
    if [ -d /sys/fs/cgroup/systemd ]; then echo /sys/fs/cgroup/systemd; else echo /sys/fs/cgroup; fi
}

cgroup() { echo "$(cgroups)/sdbox-$(echo "$box" | cksum | cut -d ' ' -f 1)"; }

up() {
    mkdir -p "$box" "$(cgroup)"
    (
        sh -c 'echo $PPID' >"$(cgroup)/cgroup.procs"
        exec unshare --mount --pid --fork --ipc --uts --net --cgroup --propagation private \
            sh "$0" _boot "$box"
    ) </dev/null >"$box/console" 2>&1 &
    echo $! >"$box/keeper"
    for _ in $(seq 200); do
        if state=$(systemd_pid >"$box/pid" && inside systemctl is-system-running 2>/dev/null) ||
            [ "${state:-}" = degraded ]; then
            cat "$box/pid"
            return
        fi
        kill -0 "$(cat "$box/keeper")" 2>/dev/null || break
        sleep 0.1
    done
    cat "$box/console" >&2
    return 1
}

systemd_pid() { pgrep --parent "$(cat "$box/keeper")" --exact systemd; }

inside() { nsenter --target "$(cat "$box/pid")" --all "$@"; }

# --- In the namespaces, before systemd: the file system.

_boot() {
    memory=$box/memory root=$box/memory/root
    mkdir "$memory"
    mount -t tmpfs -o size=3g,mode=755 box "$memory"
    mkdir "$memory/upper" "$memory/work" "$root"
    mount -t overlay -o "lowerdir=/,upperdir=$memory/upper,workdir=$memory/work" overlay "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    cgroup_mounts "$root"
    for path in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$path"; done
    chmod 1777 "$root/tmp"
    devices "$root/dev"
    bare_system "$root"
    # Who joins a mount namespace, be it his own, gets its root: from within a chroot only so
    # does pivot_root change the root of the namespace, and not the chroot's alone.
    exec 9<"$root"
    exec nsenter --mount=/proc/self/ns/mnt sh -c '
        set -eu
        cd /proc/self/fd/9
        exec 9<&-
        mkdir -p mnt
        pivot_root . mnt
        umount -l /mnt
        mount --make-rshared / # systemd would, outside of a container: LoadCredential= needs it
        exec env -i container=sdbox PATH=/usr/sbin:/usr/bin:/sbin:/bin \
            /lib/systemd/systemd --system --unit=multi-user.target --show-status=no'
}

cgroup_mounts() {
    if [ -d /sys/fs/cgroup/systemd ]; then
        mount -t tmpfs -o mode=755 tmpfs "$1/sys/fs/cgroup"
        mkdir "$1/sys/fs/cgroup/systemd" "$1/sys/fs/cgroup/unified"
        mount -t cgroup -o none,name=systemd cgroup "$1/sys/fs/cgroup/systemd"
        mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup/unified"
    else
        mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
    fi
}

devices() {
    for name in null zero full random urandom tty; do
        touch "$1/$name"
        mount --bind "/dev/$name" "$1/$name"
    done
    mkdir "$1/shm" "$1/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$1/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$1/pts"
    ln -s pts/ptmx "$1/ptmx"
    ln -s /proc/self/fd "$1/fd"
}

bare_system() { # nothing of what this machine starts, and an identity of its own
    for target in multi-user timers sockets sysinit network-online; do
        rm -rf "$1/etc/systemd/system/$target.target.wants"
    done
    for unit in systemd-timesyncd systemd-udevd systemd-networkd systemd-resolved console-getty; do
        ln -sf /dev/null "$1/etc/systemd/system/$unit.service"
    done
    : >"$1/etc/machine-id"
}

down() {
    keeper=$(cat "$box/keeper")
    kill -s RTMIN+4 "$(cat "$box/pid")" 2>/dev/null || true # power off: systemd(1)
    for _ in $(seq 100); do
        kill -0 "$keeper" 2>/dev/null || break
        sleep 0.1
    done
    kill -s KILL "$(cat "$box/pid")" 2>/dev/null || true
    find "$(cgroup)" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    rm -rf "$box"
}

case $verb in
up) up ;;
run) inside "$@" ;;
down) down ;;
_boot) _boot ;;
*)
    echo "usage: $0 up|run|down DIR [CMD...]" >&2
    exit 2
    ;;
esac
