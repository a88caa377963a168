#!/bin/bash
# mostly waits
# NCCL network plugins under Weft: every collective over a third-party plugin of each version of the interface (a fake one), a
# rank that dies, and libraries that have something else under NCCL's names refused.
set -u

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
fail() {
    echo "$*"
    exit 1
}
fakes=$PWD/$BUILD/tests/conformance
case $BUILD in /*) fakes=$BUILD/tests/conformance ;; esac
perf=$BUILD/bin/weft-perf

for version in 6 7 8 9 10 11 12; do
    export WEFT_NET_PLUGIN=$fakes/libnccl-net-fake$version.so
    case $version in
    12) collectives="all_reduce all_gather reduce_scatter all_to_all broadcast reduce gather scatter sendrecv barrier" ;;
    *) collectives=all_reduce ;;
    esac
    for collective in $collectives; do
        "$perf" $collective --ranks 3 -b 8 -e 2M -f 64 -n 2 -w 1 --transport plugin -J "$place/result" >"$place/out" 2>&1 ||
            { cat "$place/out"; fail "$collective over version $version failed"; }
        [ "$(grep -c '"transport": "plugin' "$place/result")" -gt 1 ] || # the option itself, and each line of results
            { cat "$place/result"; fail "$collective did not go over the plugin"; }
    done
done
# Weft's own NCCL plugin, loaded back. NCCL's interface has no way to give up a connect that is under way, so what that holds when
# a peer dies is not given back: no leaks are counted here.
own=${fakes%/tests/conformance}/lib/libnccl-net-weft.so
ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" "$BUILD/tests/conformance/test_plugin" "$own" ||
    fail "Weft's NCCL plugin does not pass the conformance suite"
ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" WEFT_NET_PLUGIN=$own \
    "$perf" all_reduce --ranks 3 -b 8 -e 2M -f 64 -n 2 -w 1 --transport plugin >"$place/out" 2>&1 ||
    { cat "$place/out"; fail "all_reduce over Weft's own NCCL plugin failed"; }
# One communicator, two transports: shared memory on each of two hosts, the plugin between them. So it is by default, too, where
# WEFT_NET_PLUGIN names one.
for transports in shm,plugin auto; do
    pids=
    for rank in 0 1 2 3; do
        WEFT_HOST_ID=$((rank / 2)) WEFT_TRANSPORTS=$transports WEFT_LOG=info RANK=$rank WORLD_SIZE=4 \
            WEFT_RENDEZVOUS=file://$place/meet.$transports "$perf" all_reduce -b 1M -e 1M -n 2 -w 1 >"$place/mixed.$rank" 2>&1 &
        pids="$pids $!"
    done
    for pid in $pids; do
        wait "$pid" || { cat "$place"/mixed.*; fail "shared memory with the plugin between hosts failed"; }
    done
    grep -q "4 ranks on 2 hosts" "$place/mixed.0" || { cat "$place/mixed.0"; fail "not four ranks on two hosts"; }
    grep -q "plugin: Weft\|plugin: fake" "$place/mixed.0" || { cat "$place/mixed.0"; fail "$transports does not use the plugin"; }
done

# refused TEXT... : the plugin in WEFT_NET_PLUGIN, and the message says all of this
refused() {
    "$perf" all_reduce --ranks 2 -b 8 -e 8 -n 1 --transport plugin >"$place/out" 2>&1 && fail "$WEFT_NET_PLUGIN was not refused"
    for text in "$@"; do
        grep -qF -- "$text" "$place/out" || { cat "$place/out"; fail "the refusal of $WEFT_NET_PLUGIN does not say: $text"; }
    done
}
library() {
    echo "$2" >"$place/odd.c"
    export WEFT_NET_PLUGIN=$place/$1
    ${CC:-gcc} -fPIC -shared "$place/odd.c" -o "$WEFT_NET_PLUGIN" || fail "$1 does not build"
}
library libnccl-net-longer.so 'void *ncclNetPlugin_v6[22] = { "another layout" };'
refused "$WEFT_NET_PLUGIN" "ncclNetPlugin_v6 has 176 bytes" "NCCL's has 136" "another interface"
library libnccom-net.so 'void *ncclNetPlugin_v6[17] = { "of another vendor" };'
refused "$WEFT_NET_PLUGIN" "Neuron"
library libnccl-net-old.so 'void *ncclNetPlugin_v5[17];'
refused "$WEFT_NET_PLUGIN" "has version 5" "knows 6 to 12"
library libnccl-net-new.so 'void *ncclNetPlugin_v14[30];'
refused "$WEFT_NET_PLUGIN" "has version 14" "knows 6 to 12"
library libnccl-net-empty.so 'void *ncclNetPlugin_v8[19] = { "empty" };'
refused "$WEFT_NET_PLUGIN" "lacks the operation init()"
library libnccl-net-weft-transport.so 'int weft_transport_plugin;'
refused "$WEFT_NET_PLUGIN" "a transport for Weft itself" "WEFT_TRANSPORTS"
exit 0
