#!/bin/bash
# The example transport, built by its own Makefile against an installed Weft: passes the conformance suite, carries every
# collective; libraries of another version, size or name are refused by file, with what was found and what is expected.
set -u

. tests/multi/support/installed.bash
cp -r examples/seqpacket "$place/seqpacket"
CFLAGS='-O2 -Werror' $make --no-print-directory -C "$place/seqpacket" CC="${CC:-gcc}" >"$place/log" 2>&1 ||
    { cat "$place/log"; fail "the example does not build"; }
library=$place/seqpacket/libweft-transport-seqpacket.so
exported=$(nm -D --defined-only "$library" | awk '{ print $3 }')
[ "$exported" = weft_transport_plugin ] || fail "the example exports $exported"

export WEFT_PLUGIN_PATH=$place/seqpacket
"$BUILD/tests/conformance/test_library" seqpacket dies || fail "the example does not pass the conformance suite"
perf=$root/bin/weft-perf
for collective in all_reduce all_gather reduce_scatter all_to_all broadcast reduce gather scatter; do
    "$perf" $collective --ranks 3 -b 8 -e 300K -f 40 -n 2 -w 1 --transport seqpacket -J "$place/result" >"$place/out" 2>&1 ||
        { cat "$place/out"; fail "$collective over the example failed"; }
    [ "$(grep -c '"transport": "seqpacket' "$place/result")" -gt 1 ] || # the option itself, and each line of results
        { cat "$place/out"; fail "$collective did not go over the example"; }
done

# refused NAME TEXT... : weft-perf over that transport fails and says all of this
refused() {
    local name=$1
    shift
    "$perf" all_reduce --ranks 2 -b 8 -e 8 -n 1 --transport "$name" >"$place/out" 2>&1 && fail "$name was not refused"
    for text in "$@"; do
        grep -qF -- "$text" "$place/out" || { cat "$place/out"; fail "the refusal of $name does not say: $text"; }
    done
}
export WEFT_PLUGIN_PATH=/nowhere:$place
flags=$(pkg-config --cflags weft)
# variant NAME SED-EXPRESSION: the example, changed
variant() {
    sed "$2" examples/seqpacket/seqpacket.c >"$place/variant.c"
    # shellcheck disable=SC2086 # flags are several words
    ${CC:-gcc} -std=gnu11 -w -fPIC -shared -fvisibility=hidden $flags "$place/variant.c" -o "$place/libweft-transport-$1.so" ||
        fail "$1 does not build"
}
variant newer 's/\.abi = WEFT_TRANSPORT_ABI/.abi = 77/'
refused newer "$place/libweft-transport-newer.so" "version 77" "has version 1"
variant small 's/\.size = sizeof(weft_transport_ops)/.size = 40/'
refused small "$place/libweft-transport-small.so" "40 bytes" "build it again"
variant large 's/\.size = sizeof(weft_transport_ops)/.size = 4000/'
refused large "$place/libweft-transport-large.so" "4000 bytes"
variant another 's/^$//'
refused another "holds transport 'seqpacket', not 'another'"
variant lacking 's/\.name = "seqpacket"/.name = "lacking"/; s/\.progress = seqpacket_progress, //'
refused lacking "lacks an operation"
echo 'int nothing;' >"$place/empty.c"
${CC:-gcc} -fPIC -shared "$place/empty.c" -o "$place/libweft-transport-empty.so"
refused empty "$place/libweft-transport-empty.so" "no symbol weft_transport_plugin"
refused missing "there is no transport 'missing'" "WEFT_PLUGIN_PATH"
exit 0
