#!/bin/bash
# The plugin for NCCL under weft-net-test: every version of the ABI; what else the program says and refuses; that it finds the
# faults of a broken plugin. NET_CONNECTIONS and NET_LARGEST make it longer (make test-full).
# time limit: 200 s
set -eu

tool=$BUILD/bin/weft-net-test
plugin=$BUILD/lib/libnccl-net-weft.so
out=$BUILD/log/nccl_net
export WEFT_INTERFACES=lo
mkdir -p "$out"
fail() {
    echo "$*"
    exit 1
}
# CODE TEXT ARGUMENTS...: the program ends with CODE and says TEXT.
expect() {
    local code=$1 text=$2 got=0
    shift 2
    # What fails ends where it stands, with all that it has.
    local sanitizer=${ASAN_OPTIONS:-}
    [ "$code" = 0 ] || sanitizer=$sanitizer:detect_leaks=0
    ASAN_OPTIONS=$sanitizer timeout 100 "$tool" "$@" >"$out/stdout" 2>"$out/stderr" || got=$?
    [ $got -eq "$code" ] || fail "weft-net-test $*: exit code $got, not $code: $(tail -n 5 "$out/stdout" "$out/stderr")"
    grep -qE -- "$text" "$out/stdout" "$out/stderr" ||
        fail "weft-net-test $*: does not say '$text': $(tail -n 5 "$out/stdout" "$out/stderr")"
}

exported=$(nm -D --defined-only "$plugin" | awk '{print $3}' | grep -v '^__\|^_fini\|^_init' | sort | tr '\n' ' ')
case $BUILD in
*asan | *tsan) ;; # a sanitizer adds symbols of its own
*) [ "$exported" = "ncclNetPlugin_v10 ncclNetPlugin_v11 ncclNetPlugin_v12 ncclNetPlugin_v8 ncclNetPlugin_v9 " ] ||
    fail "exports: $exported" ;;
esac

expect 0 'grouped receives +ok: 8' --check --connections "${NET_CONNECTIONS:-64}" --largest "${NET_LARGEST:-64M}" "$plugin"
grep -E 'killed|connections' "$out/stdout"
for abi in 8 9 10 11; do
    expect 0 'many connections +ok' --check --no-kill --abi $abi --largest 300000 --connections 4 "$plugin"
done
(cd "$BUILD/lib" &&
    LD_LIBRARY_PATH=. timeout 100 ../bin/weft-net-test --check --no-kill --largest 100 --connections 1 weft >/dev/null) ||
    fail "the plugin is not found by its name"

expect 0 'usage: weft-net-test' --help
"$tool" --help >/dev/full 2>"$out/stderr" && fail 'what cannot be written is not said'
grep -q 'No space left' "$out/stderr" || fail "a full disk: $(cat "$out/stderr")"
expect 2 'which plugin'
expect 2 "'lots': a number from 1 to" --connections lots "$plugin"
expect 2 "'--fast'" --fast "$plugin"
expect 1 'libnccl-net-nowhere.so' nowhere
expect 1 'has no ncclNetPlugin_v6 to _v12' "$BUILD/lib/libweft.so"
expect 1 'no ncclNetPlugin_v7' --abi 7 "$plugin"
expect 1 'no device 7' --device 7 --check --no-kill "$plugin"
WEFT_INTERFACES=nothing expect 1 "matches WEFT_INTERFACES 'nothing'" --check --no-kill "$plugin"

flags=
case $BUILD in *asan) flags=-fsanitize=address,undefined ;; *tsan) flags=-fsanitize=thread ;; esac
compile() {
    # shellcheck disable=SC2086 # nothing or one word; CC may be two
    ${CC:-gcc} -std=gnu11 -D_GNU_SOURCE -fPIC -shared $flags -Isrc -Wall -Wextra "tests/multi/support/$1_net.c" -o "$2" -ldl
}

# Another plugin, of the oldest version, beside ours.
compile plain "$out/libnccl-net-plain.so"
expect 0 'grouped receives +ok: not offered' --check --largest 300000 --connections 4 "$out/libnccl-net-plain.so"
expect 0 '^ +65536( +[0-9.]+){6}' --speed --rounds 1 -b 64K -e 64K "$plugin" "$out/libnccl-net-plain.so"

# A plugin with a fault: each is found, and named.
broken=$out/libnccl-net-broken.so
flags=
case $BUILD in *asan) flags=-fsanitize=address,undefined ;; *tsan) flags=-fsanitize=thread ;; esac
# shellcheck disable=SC2086 # words, not one
${CC:-gcc} -std=gnu11 -fPIC -shared $flags -Isrc -Wall -Wextra tests/multi/support/broken_net.c -o "$broken" -ldl
TEST_NET_GOOD=$(readlink -f "$plugin")
export TEST_NET_GOOD
broken_check() {
    TEST_NET_FAULT=$1 expect 1 "$2" --check --no-kill --timeout "${3:-20}" --largest 70000 --connections 2 "$broken"
}
TEST_NET_FAULT=none expect 0 'many connections +ok' --check --no-kill --largest 70000 --connections 2 "$broken"
broken_check data 'byte [0-9]+ is wrong'
broken_check size 'test\(\) says'
broken_check guard 'behind it was written'
broken_check hang 'has not come to an end within 2 s' 2
broken_check leak 'descriptors are still open'
broken_check null 'ncclNetPlugin_v8 lacks the operation closeListen'
broken_check block 'handshake.*(the other side of the test|did not come)' 1
