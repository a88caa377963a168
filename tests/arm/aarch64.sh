#!/bin/bash
# The library for 64-bit Arm, built by a cross compiler and run by QEMU's user mode: its kernels agree with plain C on processors
# without SVE and with it, and ranks meet, over shared memory and TCP, with right results. What only real processors show, how
# memory is ordered and how fast it is, is not seen here.
set -eu
compiler=aarch64-linux-gnu-gcc
emulator=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) || emulator=
if ! command -v $compiler > /dev/null || [ -z "$emulator" ]; then
    echo "SKIP: needs $compiler and qemu-aarch64 (tools/deps arm)"
    exit 77
fi
build=$BUILD/arm
log=$BUILD/log/aarch64.out
mkdir -p "$BUILD/log"
fail() { echo "$*: see below"; tail -20 "$log"; exit 1; }

unset MAKEFLAGS MAKELEVEL
make --no-print-directory -j"$(nproc)" BUILD="$build" CC=$compiler HAVE_VERBS= CFLAGS=-O2 LIBS='-static -pthread -ldl -lm' \
    "$build/bin/bench_reduce" "$build/bin/weft-perf" > "$log" 2>&1 || fail "the build"

for processor in cortex-a72:neon max:sve; do
    "$emulator" -cpu ${processor%:*} "$build/bin/bench_reduce" 1000 > "$log" 2>&1 || fail "bench_reduce"
    grep -q "instruction set ${processor#*:};" "$log" || fail "instruction set of ${processor%:*}"
    # A set that does not agree with plain C for a type is not used for it, with a warning.
    if grep -qi "warn" "$log"; then fail "kernels of ${processor#*:}"; fi
done

port=$((20000 + $$ % 10000))
rank() {
    RANK=$1 WORLD_SIZE=2 LOCAL_RANK=$1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
        timeout 60 "$emulator" "$build/bin/weft-perf" "$collective" -b 8 -e 2M -f 64 -n 2 -w 1 --datatype "$type"
}
for transports in auto tcp; do
    export WEFT_TRANSPORTS=$transports
    for pair in all_reduce:f32 all_reduce:f16 all_reduce:bf16 reduce_scatter:f64 all_gather:i32 broadcast:i8; do
        collective=${pair%:*} type=${pair#*:} port=$((port + 1))
        rank 1 > /dev/null 2>&1 & second=$!
        rank 0 > "$log" 2>&1 || fail "$pair, WEFT_TRANSPORTS=$transports, rank 0"
        wait $second || fail "$pair, WEFT_TRANSPORTS=$transports, rank 1"
        grep -q "Out of bounds values : 0 OK" "$log" || fail "$pair, WEFT_TRANSPORTS=$transports: results"
    done
done
echo "kernels by NEON and SVE agree with plain C; collectives of two ranks are right over shared memory and TCP"
