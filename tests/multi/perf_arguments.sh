#!/bin/bash
# weft-perf's command line: what is wrong is refused with exit code 2 and a line that names it, before anything is started;
# what cannot be written, or not be had, ends with 1.
set -u

perf=$BUILD/bin/weft-perf
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
failures=0

# expect CODE TEXT ARGUMENT...: that exit code, and TEXT in what it says.
expect() {
    local code=$1 text=$2 output
    shift 2
    output=$("$perf" "$@" 2>&1)
    local got=$?
    if [ $got -ne "$code" ] || [[ $output != *"$text"* ]]; then
        echo "weft-perf $*: exit code $got, expected $code and '$text' in: $output"
        failures=$((failures + 1))
    fi
}

expect 2 "no collective given"
expect 2 "foo: no such collective" foo
expect 2 "second collective after all_reduce" all_reduce barrier
expect 2 "-b 12Q" all_reduce -b 12Q
expect 2 "-b -8" all_reduce -b -8
expect 2 "-b 99999999999G" all_reduce -b 99999999999G
expect 2 "-e x" all_reduce --maxbytes x
expect 2 "-b 5368709120 is more than -e 1024" all_reduce -b 5G -e 1K
expect 2 "-f 1" all_reduce -f 1
expect 2 "-i 0" all_reduce -i 0
expect 2 "give one of them" all_reduce -f 2 -i 3
expect 2 "-n 0" all_reduce -n 0
expect 2 "-n 2147483648" all_reduce --iters 2147483648
expect 2 "-w -1" all_reduce --warmup_iters -1
expect 2 "-c yes" all_reduce --check yes
expect 2 "-d f33" all_reduce --datatype f33
expect 2 "-o plus" all_reduce --op plus
expect 2 "integer type" all_reduce -o band
expect 2 "-r 2" broadcast --root 2
expect 2 "-r 4" broadcast -r 4 --ranks 4
expect 2 "--ranks 0" all_reduce --ranks 0
expect 2 "--ranks two" all_reduce --ranks two
expect 2 "there is no transport 'carrier'" all_reduce --transport shm,carrier
expect 2 "--algorithm quick" all_reduce --algorithm quick
expect 2 "--lanes 0" all_reduce --lanes 0
expect 2 "--slice 0" all_reduce --slice 0
expect 2 "--async 0" all_reduce --async=0
expect 2 "one of them" all_reduce --cold --async
expect 2 "no in-place form" sendrecv --in-place
expect 2 "no algorithms" sendrecv --algorithm ring
expect 2 "no algorithms" sendrecv --tune "$place/table"
expect 2 "one root" broadcast --root all --tune "$place/table"
expect 2 "leave those out" all_reduce --tune "$place/table" -J "$place/file"
expect 2 "-g: weft has one rank per process" all_reduce -g 2
expect 2 "-q: no such flag" all_reduce -q
expect 2 "--nope: no such flag" all_reduce --nope
expect 2 "--r: no such flag, or one that could be several" all_reduce --r 1
expect 2 "-b needs a value" all_reduce -b
expect 2 "takes no value" all_reduce --both=1
expect 2 "bruck: all_reduce with 2 ranks on 1 host" all_reduce --algorithm bruck
expect 2 "needs all ranks on one host" all_reduce --algorithm flat --transport tcp
[ -e "$place/table" ] && { echo "a refused --tune wrote its file"; failures=$((failures + 1)); }

expect 1 "/nowhere/file" all_reduce -e 8 -n 1 -J "$place/nowhere/file"
expect 1 "No space left" all_reduce -e 8 -n 1 -J /dev/full
expect 1 "/nowhere/table" all_reduce -e 8 -n 1 --tune "$place/nowhere/table"
expect 1 "lower -e" all_reduce -e 900G
"$perf" all_reduce -e 8 -n 1 >/dev/full 2>"$place/error"
[ $? -eq 1 ] && grep -q "No space left" "$place/error" ||
    { echo "a full disk under standard output: $(cat "$place/error")"; failures=$((failures + 1)); }

expect 0 "usage: weft-perf COLLECTIVE" --help
expect 0 "WEFT_ALGORITHM" --help-env
for text in --help --help-env --version; do
    "$perf" "$text" >/dev/full 2>"$place/error"
    [ $? -eq 1 ] && grep -q "No space left" "$place/error" ||
        { echo "$text to a full disk: $(cat "$place/error")"; failures=$((failures + 1)); }
done
expect 0 "weft-perf 0." --version
# The launcher's rank speaks once for all.
output=$(RANK=1 WORLD_SIZE=2 "$perf" --help; RANK=1 WORLD_SIZE=2 "$perf" nonsense 2>&1)
[ -z "$output" ] || { echo "rank 1 of a launcher spoke: $output"; failures=$((failures + 1)); }

[ $failures -eq 0 ] || exit 1
