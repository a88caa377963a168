#!/bin/bash
# The transport "ucx", a library of its own: the conformance suite over UCX's TCP and shared memory, every collective over TCP and
# shared memory, and a UCX that can reach nobody says so.
set -u

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
fail() {
    echo "$*"
    exit 1
}
case $BUILD in
*asan | *tsan)
    echo "UCX's memory hooks and a sanitizer's do not go together"
    exit 77
    ;;
esac
[ -e "$BUILD/lib/weft/libweft-transport-ucx.so" ] || { echo "built without UCX (libucx-dev)"; exit 77; }
perf=$BUILD/bin/weft-perf
readelf -d "$BUILD/lib/libweft.so" | grep -q 'NEEDED.*libuc' && fail "libweft.so itself needs UCX"
exported=$(nm -D --defined-only "$BUILD/lib/weft/libweft-transport-ucx.so" | awk '{ print $3 }')
[ "$exported" = weft_transport_plugin ] || fail "the library exports $exported"

export UCX_WARN_UNUSED_ENV_VARS=n
UCX_TLS=tcp WEFT_PLUGIN_PATH=$BUILD/lib/weft "$BUILD/tests/conformance/test_library" ucx dies 8 ||
    fail "ucx over tcp does not pass the conformance suite"
UCX_TLS=posix,cma WEFT_PLUGIN_PATH=$BUILD/lib/weft "$BUILD/tests/conformance/test_library" ucx - 16 ||
    fail "ucx over shared memory does not pass the conformance suite"

# over TLS COLLECTIVE... : found beside the program, without WEFT_PLUGIN_PATH
over() {
    export UCX_TLS=$1
    shift
    for collective in "$@"; do
        "$perf" "$collective" --ranks 3 -b 8 -e 2M -f 64 -n 2 -w 1 --transport ucx -J "$place/result" >"$place/out" 2>&1 ||
            { cat "$place/out"; fail "$collective over ucx with $UCX_TLS failed"; }
        [ "$(grep -c '"transport": "ucx' "$place/result")" -gt 1 ] || # the option itself, and each line of results
            { cat "$place/result"; fail "$collective did not go over ucx"; }
    done
}
all="all_reduce all_gather reduce_scatter all_to_all broadcast reduce gather scatter sendrecv barrier"
for tls in tcp posix sysv,cma; do
    # shellcheck disable=SC2086
    over $tls $all
done

export UCX_TLS=no_such_transport
"$perf" all_reduce --ranks 2 -b 8 -e 8 -n 1 --transport ucx >"$place/out" 2>&1 && fail "UCX worked without a transport"
grep -q "ucx: " "$place/out" && grep -q "UCX_TLS" "$place/out" || { cat "$place/out"; fail "the error does not speak of UCX"; }
exit 0
