#!/bin/bash
# The library and its programs with musl instead of glibc: they build without a warning, ranks meet, and results are right over
# shared memory and TCP.
set -eu
if ! command -v musl-gcc > /dev/null; then
    echo "SKIP: needs musl-gcc (tools/deps musl)"
    exit 77
fi
build=$BUILD/musl
log=$BUILD/log/musl.out
mkdir -p "$build/kernel" "$BUILD/log"
fail() { echo "$*: see below"; tail -20 "$log"; exit 1; }

# musl-gcc looks for headers nowhere else than at musl's, and the kernel's are not among them.
for folder in linux asm asm-generic; do
    at=/usr/include/$folder
    [ -d "$at" ] || at=/usr/include/$(gcc -print-multiarch)/$folder
    ln -sfn "$at" "$build/kernel/$folder"
done
unset MAKEFLAGS MAKELEVEL
make --no-print-directory -j"$(nproc)" BUILD="$build" CC=musl-gcc HAVE_VERBS= MPICC= CPPFLAGS="-isystem $build/kernel" \
    CFLAGS=-O0 programs nccl-net > "$log" 2>&1 || fail "the build"

for transport in shm tcp; do
    "$build/bin/weft-perf" all_reduce --ranks 3 -b 8 -e 4M -f 64 -n 3 -w 1 --transport $transport > "$log" 2>&1 ||
        fail "all_reduce, $transport"
    grep -q "Out of bounds values : 0 OK" "$log" || fail "all_reduce, $transport: results"
done
"$build/bin/weft-plan" all_reduce --ranks 8 --verify > "$log" 2>&1 || fail "weft-plan"
"$build/bin/weft-topo" > "$log" 2>&1 || fail "weft-topo"
echo "library and programs build with musl; all_reduce of three ranks is right over shared memory and TCP"
