#!/usr/bin/env python3
# time limit: 200 s
# runs alone
# The plugin for NCCL over RDMA devices, in the machine: one device, and two fused; a side that is killed.
import boot

boot.need_verbs()

INSIDE = """
set -u
export WEFT_INTERFACES=veth
packets() { cat /sys/class/infiniband/$1/ports/1/hw_counters/sent_pkts; }
run() {
    before0=$(packets rxe0) before1=$(packets rxe1)
    "$BUILD/bin/weft-net-test" --verbose --check --connections 2 --largest 300K "$@" "$BUILD/lib/libnccl-net-weft.so" >out 2>&1 ||
        { tail -n 20 out; exit 1; }
    grown0=$(($(packets rxe0) - before0)) grown1=$(($(packets rxe1) - before1))
    grep -E '  ok' out
    echo "$*: rxe0 sent $grown0 packets, rxe1 $grown1"
}
cd /tmp && case $BUILD in /*) ;; *) BUILD=$OLDPWD/$BUILD ;; esac
run --device 0
[ "$grown0" -gt 1000 ] && [ "$grown1" -lt 10 ] || { echo "device 0 is not rxe0 alone"; exit 1; }
run --device 0 --fuse 2 --no-kill
[ "$grown0" -gt 1000 ] && [ "$grown1" -gt 1000 ] || { echo "fused, not both devices carry data"; exit 1; }
"""
boot.run(170, ["bash", "-c", INSIDE])
