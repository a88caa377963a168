#!/bin/bash
# The manual pages of the programs name exactly the flags of their --help, format without warnings, and the bash completion
# offers collectives, flags and values.
set -eu

fail() {
    echo "$*"
    exit 1
}
flags() {
    grep -oE -- '(^|[ ,"])--?[a-zA-Z][a-z_-]*' | tr -d ' ,"' | sort -u
}

for program in weft-perf weft-plan weft-topo weft-net-test; do
    [ -x "$BUILD/bin/$program" ] || fail "$BUILD/bin/$program is not built"
    # The first column: "  -b, --minbytes SIZE    smallest size". In the page, what follows a .TP.
    "$BUILD/bin/$program" --help | grep -E '^ {1,8}-' | sed 's/^ *//; s/  .*//' | flags >"$BUILD/log/$program.flags"
    sed -n '/^\.SH OPTIONS/,/^\.SH EXIT/p' "docs/man/$program.1" | sed -n '/^\.TP/{n;p}' | sed 's/\\f[A-Z]//g; s/^\.[A-Z]* *//' |
        flags >"$BUILD/log/$program.manual"
    diff "$BUILD/log/$program.flags" "$BUILD/log/$program.manual" || fail "docs/man/$program.1 has other flags than --help (<)"
done

if command -v man >/dev/null; then
    for page in docs/man/*; do
        warnings=$(man --warnings -l "$page" 2>&1 >/dev/null | grep -v locale || true)
        [ -z "$warnings" ] || fail "$page: $warnings"
    done
fi

# shellcheck source=docs/completion.bash
. docs/completion.bash
PATH=$PWD/$BUILD/bin:$PATH
[[ $BUILD = /* ]] && PATH=$BUILD/bin:$PATH
completes() {
    local wanted=$1
    shift
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    _weft "$1"
    [[ " ${COMPREPLY[*]} " = *" $wanted "* ]] || fail "completing '$*' does not offer $wanted: ${COMPREPLY[*]}"
}
completes all_reduce weft-perf all_re
completes sendrecv weft-perf ''
completes --registered weft-perf all_reduce --reg
completes bf16 weft-perf all_reduce -d b
completes hierarchical weft-plan all_reduce --algorithm h
completes svg weft-plan all_reduce --format s
completes --why weft-plan all_reduce --w
completes --matrix weft-topo --mat
completes docs weft-topo --file do
completes --connections weft-net-test --conn
echo "manual pages and completion agree with the programs"
