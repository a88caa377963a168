#!/bin/bash
# weft-topo on machine files: those in tests/golden/topology print what they printed before (UPDATE=1 takes over what they print
# now) and survive a round trip through every format; what cannot be read is refused with file and line. Files of real machines,
# in the folder that WEFT_TEST_TOPOLOGIES names or in ../shared/topologies, give a sound graph or a refusal, in time.
set -eu

topo=$BUILD/bin/weft-topo
golden=tests/golden/topology
out=$BUILD/log/topo
real=${WEFT_TEST_TOPOLOGIES:-../shared/topologies}
fail() {
    echo "$*"
    exit 1
}
[ -x "$topo" ] || fail "$topo is not built"
mkdir -p "$out"

# FILE ARGUMENTS...: the output is FILE.
same() {
    local file=$golden/$1
    shift
    "$topo" "$@" >"$out/printed" || fail "weft-topo $*: exit code $?"
    [ "${UPDATE:-0}" = 1 ] && cp "$out/printed" "$file"
    diff "$file" "$out/printed" || fail "weft-topo $*: prints something else than $file (<)"
}
# The same machine comes back from Weft's XML and JSON, and NCCL's XML from NCCL's XML.
round_trip() {
    "$topo" --xml "$1" >"$out/1.xml" && "$topo" --xml "$out/1.xml" >"$out/2.xml" && cmp "$out/1.xml" "$out/2.xml" ||
        fail "$1: XML"
    "$topo" --json "$1" >"$out/1.json" && "$topo" --xml "$out/1.json" >"$out/2.xml" && cmp "$out/1.xml" "$out/2.xml" ||
        fail "$1: JSON"
    "$topo" --nccl-xml "$1" >"$out/nccl.xml" && "$topo" "$out/nccl.xml" >/dev/null || fail "$1: NCCL XML"
}
# FILE: exit code 1 and "FILE:LINE: reason".
refuses() {
    local code=0
    "$topo" "$1" >"$out/printed" 2>"$out/reason" || code=$?
    [ $code -eq 1 ] || fail "weft-topo $1: exit code $code, not 1"
    [ ! -s "$out/printed" ] || fail "weft-topo $1: prints to stdout as well"
    grep -qF "$1:" "$out/reason" && grep -qE ':[0-9]+: .' "$out/reason" ||
        fail "weft-topo $1: no file and line: $(cat "$out/reason")"
}

for machine in "$golden"/*.xml "$golden"/matrix.txt; do
    name=$(basename "$machine")
    case $name in
    refused-*) continue ;;
    esac
    same "$name.tree" "$machine"
    same "$name.matrix" --matrix "$machine"
    same "$name.nics" --nics "$machine"
    same "$name.channels" --rings 0 --trees "$machine"
    "$topo" --dot "$machine" >"$out/dot" && grep -q '^}' "$out/dot" || fail "weft-topo --dot $machine"
    round_trip "$machine"
done
for machine in "$golden"/refused-*; do
    refuses "$machine"
    sed "s|^weft-topo: $golden/||" "$out/reason"
done >"$out/refusals"
[ "${UPDATE:-0}" = 1 ] && cp "$out/refusals" "$golden/refusals"
diff "$golden/refusals" "$out/refusals" || fail "refusals are worded otherwise than in $golden/refusals (<)"
cmp "$golden/sockets2.hwloc2.xml.tree" "$golden/sockets2.hwloc3.xml.tree" || fail "hwloc 2 and 3 give different trees"

# Exit code 1 where a fault is found.
"$topo" --check "$golden/cubemesh8.xml" >"$out/printed" && fail "--check ends with 0 though an NVLink row is missing"
[ "${UPDATE:-0}" = 1 ] && cp "$out/printed" "$golden/cubemesh8.xml.check"
diff "$golden/cubemesh8.xml.check" "$out/printed" || fail "--check prints something else than $golden/cubemesh8.xml.check (<)"
"$topo" --check "$golden/xgmi4.xml" >/dev/null || fail "--check finds a fault where there is none"
"$topo" --diff "$golden/xgmi4.xml" "$golden/xgmi4.xml" || fail "a machine differs from itself"
sed 's/count="1"/count="2"/; s/0000:30:00.0/0000:31:00.0/' "$golden/xgmi4.xml" >"$out/other.xml"
"$topo" --diff "$golden/xgmi4.xml" "$out/other.xml" >"$out/printed" && fail "--diff ends with 0 though machines differ"
grep -q '^- 0000:30:00.0: NIC0' "$out/printed" && grep -q '^+ 0000:31:00.0: NIC0' "$out/printed" &&
    grep -q '^~ 0000:21:00.0 - 0000:22:00.0 xgmi: 96 GB/s x2, was 48 GB/s x1' "$out/printed" ||
        fail "--diff: $(cat "$out/printed")"

if command -v python3 >/dev/null; then
    for machine in switched8.xml matrix.txt c2c-two-hosts.xml xgmi4.xml; do
        "$topo" --svg "$golden/$machine" | python3 -c 'import sys, xml.etree.ElementTree as tree; tree.parse(sys.stdin)' ||
            fail "--svg of $machine is not XML"
        "$topo" --rings --trees --svg "$golden/$machine" |
            python3 -c 'import sys, xml.etree.ElementTree as tree; tree.parse(sys.stdin)' ||
                fail "channels of $machine are no picture"
    done
    "$topo" --svg "$golden/xgmi4.xml" | grep -q 'xGMI 1x, 48.0 GB/s' || fail "--svg does not tell what links between GPUs carry"
    "$topo" --json "$golden/switched8.xml" | python3 -m json.tool >/dev/null || fail "--json is not JSON"
    "$topo" --nccl-xml "$golden/sockets2.hwloc2.xml" |
        python3 -c 'import sys, xml.etree.ElementTree as tree; tree.parse(sys.stdin)' || fail "--nccl-xml is not XML"
fi

usage() {
    local message=$1 code=0
    shift
    "$topo" "$@" >/dev/null 2>"$out/reason" || code=$?
    [ $code -eq 2 ] || fail "weft-topo $*: exit code $code, not 2"
    grep -qF -- "$message" "$out/reason" || fail "weft-topo $*: does not say '$message': $(cat "$out/reason")"
}
usage 'only one machine file' a b
usage 'only one thing is shown' --matrix --json a
usage 'only one thing is shown' --svg --matrix a
usage 'there is no such flag' --matix a
usage '--explain: give two values' --explain GPU0
usage '--rings 9x: give a number' --rings 9x a
usage '--network goes with --rings and --trees' --network a
usage '--diff names both machines' --diff a b c
[ "$("$topo" --explain GPU0 mlx5_3 "$golden/switched8.xml" | grep -c 'narrowest')" = 1 ] || fail "--explain names no bottleneck"
# As many hops as a ring has ends, for each ring that is drawn.
rings=$("$topo" --rings --dot "$golden/switched8.xml")
[ "$(grep -c 'subgraph' <<<"$rings")" -ge 1 ] &&
    [ "$(grep -c -- '->' <<<"$rings")" = $((8 * $(grep -c 'subgraph' <<<"$rings"))) ] ||
    fail "--rings --dot: $rings"
if "$topo" --explain GPU0 GPU99 "$golden/switched8.xml" 2>"$out/reason"; then fail "--explain finds GPU99"; fi
grep -q 'there is no GPU99' "$out/reason" || fail "--explain does not say that there is no GPU99"

if [ ! -d "$real" ]; then
    echo "weft-topo reads, prints and converts the project's own machines (no folder of real ones: WEFT_TEST_TOPOLOGIES)"
    exit 0
fi
count=0
while IFS= read -r machine; do
    count=$((count + 1))
    case $machine in
    *.graph.xml)
        refuses "$machine"
        # As good as what NCCL found there, or better.
        "$topo" --compare "$machine" "${machine%.graph.xml}.topo.xml" || fail "NCCL has better channels: $machine"
        ;;
    *.tar.bz2) refuses "$machine" ;;
    *)
        timeout 10 "$topo" "$machine" >/dev/null || fail "weft-topo $machine: exit code $?"
        timeout 10 "$topo" --rings 0 --trees "$machine" >/dev/null || fail "weft-topo --rings 0 --trees $machine: exit code $?"
        code=0
        timeout 10 "$topo" --check "$machine" >/dev/null || code=$?
        [ $code -le 1 ] || fail "weft-topo --check $machine: exit code $code"
        round_trip "$machine"
        ;;
    esac
done < <(find "$real" -type f ! -name '*.tsv' ! -name '*.md' | sort)
[ $count -gt 0 ] || fail "$real holds no machine files"
echo "weft-topo reads, prints and converts the project's own machines and $count files of $real"
