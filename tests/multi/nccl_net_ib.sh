#!/bin/bash
# The plugin for NCCL on a machine whose InfiniBand ports have no network interface (no IPoIB): a libibverbs of the test's own
# and a /sys/class that shows its two adapters. Each port is a device, messages go over it, and the ordinary interface is only
# where sides meet.
set -eu

fail() {
    echo "$*"
    exit 1
}
out=$BUILD/log/nccl_net_ib
if [ "${1:-}" != inside ]; then
    [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null || { echo "a /sys of its own: needs root and unshare" && exit 77; }
    pkg-config --exists libibverbs || { echo "no libibverbs-dev" && exit 77; }
    case $BUILD in *asan | *tsan) echo "the fake library is not built with a sanitizer" && exit 77 ;; esac
    exec unshare --mount bash "$0" inside
fi

mkdir -p "$out"
${CC:-gcc} -std=gnu11 -DWEFT_HAVE_VERBS -fPIC -shared -Isrc -Iinclude -Wall tests/multi/support/fake_ibverbs.c \
    -Wl,-soname,libibverbs.so.1 -o "$out/libibverbs.so.1" -lpthread
${CC:-gcc} -std=gnu11 -D_GNU_SOURCE -Isrc -Wall -Wextra tests/multi/support/net_pair.c -o "$out/net_pair" -ldl

mkdir -p "$out/net" && mount --bind /sys/class/net "$out/net" && mount -t tmpfs none /sys/class 2>/dev/null ||
    { echo "nothing may be mounted here" && exit 77; }
mkdir /sys/class/net && mount --bind "$out/net" /sys/class/net
for i in 0 1; do
    pci=/sys/class/pci/0000:3b:00.$i port=/sys/class/infiniband/fake$i/ports/1
    mkdir -p "$pci" "$port"
    ln -s "../../pci/0000:3b:00.$i" "/sys/class/infiniband/fake$i/device"
    echo "0c42:a103:00b3:10$i$i" >"/sys/class/infiniband/fake$i/node_guid"
    echo InfiniBand >"$port/link_layer"
    echo "4: ACTIVE" >"$port/state"
    echo "200 Gb/sec (4X HDR)" >"$port/rate"
done
# A port that the library does not know, as in a container without its device file, is none.
mkdir -p /sys/class/infiniband/gone0/ports/1
echo InfiniBand >/sys/class/infiniband/gone0/ports/1/link_layer

pair() { # ARGUMENTS...
    LD_LIBRARY_PATH=$out timeout 60 "$out/net_pair" "$BUILD/lib/libnccl-net-weft.so" "$@" >"$out/said" 2>&1 ||
        fail "$*: $(tail -n 8 "$out/said")"
}
says() {
    grep -qE -- "$1" "$out/said" || fail "'$1' is not in: $(cat "$out/said")"
}
export WEFT_INTERFACES=lo
pair fake0 fake1 fake0+fake1 lo fake0/lo
says '^device fake0 port 1 speed 200000 on /0000:3b:00.0 guid 1'
says '^device fake1 port 1 speed 200000 on /0000:3b:00.1 guid 1'
says '^sent fake0: 1.0 0.0'
says '^sent fake1: 0.0 1.0'
says '^sent fake0\+fake1: 0\.[2-8] 0\.[2-8]'
says '^sent lo: 0.0 0.0'
says '^sent fake0/lo: 0.0 0.0'
says 'goes not over fake0 but by TCP over lo'
says '^device lo .* on /- '
grep -q '^device gone0' "$out/said" && fail "a port that cannot be opened is a device"

WEFT_IB_HCA=fake1 pair fake1
grep -q '^device fake0' "$out/said" && fail "WEFT_IB_HCA=fake1, and fake0 is a device"
for list in =fake0:1 ^fake1 '^=fake1,fake7' fake0:1,fake0:2; do
    NCCL_IB_HCA=$list pair fake0
    grep -q '^device fake1' "$out/said" && fail "NCCL_IB_HCA=$list, and fake1 is a device"
done
WEFT_IB_HCA=fake NCCL_IB_HCA=fake0 pair fake1
NCCL_IB_DISABLE=1 pair lo
grep -q '^device fake' "$out/said" && fail "NCCL_IB_DISABLE=1, and there are devices of RDMA"
echo "each port of InfiniBand is a device without an interface"
