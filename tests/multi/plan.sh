#!/bin/bash
# weft-plan: what it prints is what it printed before (tests/golden/plan; UPDATE=1 takes over what it prints now), JSON and SVG
# are well formed, wrong usage ends with exit code 2 and a message that names value and remedy.
set -eu

plan=$BUILD/bin/weft-plan
golden=tests/golden/plan
fail() {
    echo "$*"
    exit 1
}
[ -x "$plan" ] || fail "$plan is not built"

# FILE ARGUMENTS...: the output is FILE.
same() {
    local file=$1
    shift
    "$plan" "$@" >"$BUILD/log/plan.out" || fail "weft-plan $*: exit code $?"
    if [ "${UPDATE:-0}" = 1 ]; then
        cp "$BUILD/log/plan.out" "$golden/$file"
    fi
    diff "$golden/$file" "$BUILD/log/plan.out" || fail "weft-plan $*: prints something else than $golden/$file (<)"
}
same ring-all_reduce-3.txt all_reduce --ranks 3 --algorithm ring -b 1M
same direct-all_reduce-2.txt all_reduce --ranks 2 --algorithm direct -b 64K
same knomial-broadcast-64.txt broadcast --ranks 64 --algorithm knomial --root 5 -b 1G
same hierarchical-hosts.txt all_reduce --hosts 4,4,2 --algorithm hierarchical --rank 9
same ring-all_gather-2.json all_gather --hosts 1,1 --algorithm ring --format json -b 8
same tree-reduce-5.dot reduce --ranks 5 --algorithm tree --format dot
same ring-numa.txt all_reduce --hosts 2x4 --numa 2 --algorithm ring --rank 2
same list.txt --list

if command -v python3 >/dev/null; then
    for arguments in "all_reduce --ranks 5" "all_to_all --hosts 3,3 --algorithm bruck" "barrier" "scatter --ranks 1"; do
        # shellcheck disable=SC2086
        "$plan" $arguments --format json | python3 -m json.tool >/dev/null || fail "weft-plan $arguments --format json: not JSON"
        # shellcheck disable=SC2086
        "$plan" $arguments --format svg |
            python3 -c 'import sys, xml.etree.ElementTree as tree; tree.parse(sys.stdin)' ||
            fail "weft-plan $arguments --format svg: not XML"
    done
    "$plan" all_reduce --hosts 16x8 --lanes 4 --algorithm ring --format svg |
        python3 -c 'import sys, xml.etree.ElementTree as tree; tree.parse(sys.stdin)' || fail "a large SVG is not XML"
else
    echo "no python3: JSON and SVG are not parsed"
fi

# MESSAGE ARGUMENTS...
refuses() {
    local message=$1 code=0
    shift
    "$plan" "$@" >"$BUILD/log/plan.out" 2>"$BUILD/log/plan.err" || code=$?
    [ $code -eq 2 ] || fail "weft-plan $*: exit code $code, not 2"
    [ ! -s "$BUILD/log/plan.out" ] || fail "weft-plan $*: prints to stdout as well"
    grep -qF -- "$message" "$BUILD/log/plan.err" || fail "weft-plan $*: does not say '$message': $(cat "$BUILD/log/plan.err")"
}
refuses 'name a collective' --ranks 4
refuses '"allreduce" is not a collective: use one of all_reduce' allreduce
refuses 'only one collective' all_reduce barrier
refuses '--ranks 0: give a number from 1 to 32768' all_reduce --ranks 0
refuses '--ranks 4x: give a number' all_reduce --ranks=4x
refuses '--hosts has 8 ranks and --ranks says 4' all_reduce --hosts 4,4 --ranks 4
refuses '--hosts 4,,2: give the ranks of each host' all_reduce --hosts 4,,2
refuses '--hosts 40000x40000: give the ranks of each host' all_reduce --hosts 40000x40000
refuses '--numa 0: give a number' all_reduce --numa 0
refuses '-b 1T: give bytes, as 4096, 64K, 1M or 2G' all_reduce -b 1T
refuses '-b 99999999999999999999: give bytes' all_reduce -b 99999999999999999999
refuses '"rng" is not an algorithm: use one of auto, ring' all_reduce --algorithm rng
refuses '--format png: give text, json, svg or dot' all_reduce --format png
refuses '--root 4: ranks are 0 to 3' broadcast --root 4
refuses '--rank 4: ranks are 0 to 3' broadcast --rank 4
refuses '--rank goes with text and json' broadcast --rank 1 --format svg
refuses '--bytes: give a value after it' all_reduce --bytes
refuses '--frmat=svg: there is no such flag' all_reduce --frmat=svg

# What is right usage but cannot be had: exit code 1, and why.
cannot() {
    local message=$1 code=0
    shift
    "$plan" "$@" >/dev/null 2>"$BUILD/log/plan.err" || code=$?
    [ $code -eq 1 ] || fail "weft-plan $*: exit code $code, not 1"
    grep -qF -- "$message" "$BUILD/log/plan.err" || fail "weft-plan $*: does not say '$message': $(cat "$BUILD/log/plan.err")"
}
cannot 'needs all ranks on one host' all_reduce --hosts 2,2 --algorithm flat
cannot 'does not serve this collective' barrier --algorithm bruck
if [ -e /dev/full ]; then
    code=0
    "$plan" all_reduce >/dev/full 2>/dev/null || code=$?
    [ $code -eq 1 ] || fail "weft-plan with nowhere to write: exit code $code, not 1"
fi

[ "$("$plan" all_reduce --hosts 4x8 --verify)" != "" ] || fail "--verify says nothing"
"$plan" all_reduce --hosts 4x8 -b 1M --why >"$BUILD/log/plan.out"
[ "$(grep -c -- '<- chosen' "$BUILD/log/plan.out")" = 1 ] || fail "--why does not name one choice"
grep -q 'flat .*needs all ranks on one host' "$BUILD/log/plan.out" || fail "--why does not say what prevents flat"
chosen=$(sed -n 's/ .*<- chosen//p' "$BUILD/log/plan.out")
"$plan" all_reduce --hosts 4x8 -b 1M | grep -q "^$chosen all_reduce" || fail "without --algorithm it does not plan $chosen"
"$plan" --help | grep -q '^usage: weft-plan' || fail "--help"
"$plan" --version | grep -qE '^weft-plan [0-9]+\.' || fail "--version"
echo "weft-plan prints, draws, verifies and refuses as it should"
