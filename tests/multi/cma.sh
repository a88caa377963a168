#!/bin/bash
# Private buffers of other processes, read by system call or not: the same results, also where the kernel would refuse it (ranks
# in PID namespaces of their own), and none of the collectives hangs when it is switched off on one rank only. The largest are
# more than is read so: they go through stages, also where the buffers of one rank are registered.
set -eu
log=$BUILD/log/cma.out
mkdir -p "$BUILD/log"
fail() { echo "$*: see below"; tail -20 "$log"; exit 1; }

for cma in 1 0; do
    for collective in all_reduce all_gather reduce_scatter broadcast reduce gather scatter all_to_all; do
        WEFT_CMA=$cma "$BUILD/bin/weft-perf" $collective --ranks 3 -b 300000 -e 1M -f 3 -n 3 -w 1 --both > "$log" 2>&1 ||
            fail "$collective with WEFT_CMA=$cma"
    done
done
for collective in all_reduce all_gather reduce broadcast; do
    "$BUILD/bin/weft-perf" $collective --ranks 2 -b 40M -e 40M -n 1 -w 0 --both > "$log" 2>&1 || fail "40 MB of $collective"
done

# rank R COMMAND...: a rank of two that meet under MASTER_ADDR
port=$((20000 + $$ % 10000))
flags='all_reduce -b 1M -e 1M'
rank() {
    local r=$1; shift
    RANK=$r WORLD_SIZE=2 LOCAL_RANK=$r LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port "$@" \
        timeout 60 "$BUILD/bin/weft-perf" $flags -n 3 -w 1
}
WEFT_CMA=0 rank 0 > "$log" 2>&1 & first=$!
rank 1 > /dev/null 2>&1 || fail "CMA on one rank only, rank 1"
wait $first || fail "CMA on one rank only, rank 0"

if unshare --fork --pid true 2> /dev/null; then
    port=$((port + 1))
    rank 0 unshare --fork --pid --kill-child > "$log" 2>&1 & first=$!
    rank 1 unshare --fork --pid --kill-child > /dev/null 2>&1 || fail "PID namespaces, rank 1"
    wait $first || fail "PID namespaces, rank 0"
else
    echo "SKIP: PID namespaces of their own: needs root"
fi

both='--both --root -1'
for collective in "all_reduce -b 40M -e 40M" "broadcast -b 40M -e 40M $both" "broadcast -b 100K -e 100K $both"; do
    port=$((port + 1)) flags="$collective --registered"
    rank 0 > "$log" 2>&1 & first=$!
    flags=$collective
    rank 1 > /dev/null 2>&1 || fail "$collective, buffers of one rank registered, rank 1"
    wait $first || fail "$collective, buffers of one rank registered, rank 0"
done
