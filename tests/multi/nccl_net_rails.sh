#!/bin/bash
# The plugin for NCCL between two hosts (network namespaces) with two interfaces each: fused into one device both carry data;
# alone the other one carries none.
set -eu

if [ "${1:-}" != inside ]; then
    [ "$(id -u)" = 0 ] && command -v ip >/dev/null && unshare --net --mount true 2>/dev/null || {
        echo "hosts as network namespaces: needs root, ip and unshare"
        exit 77
    }
    exec unshare --net --mount bash "$0" inside
fi

fail() {
    echo "$*"
    exit 1
}
unshare --net sh -c 'echo; exec sleep 100' >"$BUILD/log/nccl_net_rails.ready" &
other=$!
trap 'kill $other' EXIT
while [ ! -s "$BUILD/log/nccl_net_rails.ready" ]; do
    kill -0 $other || fail "no second namespace"
    read -r -t 0.05 _ <> <(:) || true
done
there() {
    nsenter --net=/proc/$other/ns/net "$@"
}
ip link set lo up
there ip link set lo up
for i in 0 1; do
    ip link add rail$i type veth peer name rail$i netns $other || { echo "hosts as network namespaces: no veth here" && exit 77; }
    ip addr add 10.9.$i.1/24 dev rail$i
    there ip addr add 10.9.$i.2/24 dev rail$i
    ip link set rail$i up
    there ip link set rail$i up
done
for i in 0 1; do
    until ip link show rail$i | grep -q 'state UP' && there ip link show rail$i | grep -q 'state UP'; do
        read -r -t 0.05 _ <> <(:) || true
    done
done

bytes_of() { # what the interface has received
    awk -F'[: ]+' -v name="$1" '{sub(/^ +/, "")} $1 == name {print $2}' /proc/net/dev
}
run() {
    local before0 before1
    before0=$(bytes_of rail0) before1=$(bytes_of rail1)
    WEFT_INTERFACES=rail timeout 60 "$BUILD/bin/weft-net-test" --netns $other --check --no-kill --connections 4 "$@" \
        "$BUILD/lib/libnccl-net-weft.so" >"$BUILD/log/nccl_net_rails.out" 2>&1 ||
            fail "$*: $(tail -n 5 "$BUILD/log/nccl_net_rails.out")"
    grown0=$(($(bytes_of rail0) - before0)) grown1=$(($(bytes_of rail1) - before1))
    echo "${*:-first device alone}: rail0 received $grown0 bytes, rail1 $grown1"
}
run --device 0
[ $grown0 -gt 100000000 ] && [ $grown1 -lt 1000000 ] || fail "device 0 is rail0 alone"
run --fuse 2
[ $grown0 -gt 30000000 ] && [ $grown1 -gt 30000000 ] || fail "fused, both carry data"
