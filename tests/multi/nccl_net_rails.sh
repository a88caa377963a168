#!/bin/bash
# The plugin for NCCL between two hosts (network namespaces) with two interfaces each: fused into one device both carry data;
# alone the other one carries none. And loaded back by the transport "plugin", which uses several devices of a plugin itself.
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

ranks() { # two ranks, one on each host, over the plugin's devices
    local before0 before1
    before0=$(bytes_of rail0) before1=$(bytes_of rail1)
    export WEFT_INTERFACES=rail WEFT_TRANSPORTS=plugin WEFT_NET_PLUGIN=$BUILD/lib/libnccl-net-weft.so WORLD_SIZE=2
    export WEFT_RENDEZVOUS=tcp://10.9.0.1:7181
    RANK=1 there timeout 60 "$BUILD/bin/weft-perf" all_reduce -b 8M -e 8M -n 4 -w 1 >"$BUILD/log/nccl_net_rails.1" 2>&1 &
    RANK=0 timeout 60 "$BUILD/bin/weft-perf" all_reduce -b 8M -e 8M -n 4 -w 1 >"$BUILD/log/nccl_net_rails.0" 2>&1 ||
        fail "rank 0: $(cat "$BUILD/log/nccl_net_rails.0")"
    wait $! || fail "rank 1: $(cat "$BUILD/log/nccl_net_rails.1")"
    grown0=$(($(bytes_of rail0) - before0)) grown1=$(($(bytes_of rail1) - before1))
    echo "the transport plugin, ${WEFT_NET_DEVICES:-one device}: rail0 received $grown0 bytes, rail1 $grown1"
}
ranks
[ $grown0 -gt 30000000 ] && [ $grown1 -lt 1000000 ] || fail "a device that is not known to be another one is not used unasked"
WEFT_NET_DEVICES=rail ranks
[ $grown0 -gt 15000000 ] && [ $grown1 -gt 15000000 ] || fail "of two devices of a plugin both carry data"
