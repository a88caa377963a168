#!/bin/bash
# What a user gets from `make install`: the example compiles against it through pkg-config, shared and static, as C and C++,
# runs as one rank and as two, and every page and program is in its place.
set -eu

. tests/multi/support/installed.bash
for file in lib/libweft.a lib/libweft.so lib/libweft.so.0 lib/pkgconfig/weft.pc include/weft/weft.h bin/weft-perf \
    bin/weft-plan share/man/man1/weft-perf.1 share/man/man3/weft_comm.3 share/man/man3/weft_all_reduce.3 \
    share/man/man7/weft.7 share/bash-completion/completions/weft-perf share/bash-completion/completions/weft-plan; do
    [ -e "$root/$file" ] || fail "$file was not installed"
done
readelf -d "$root/lib/libweft.so" | grep -q 'soname: \[libweft.so.0\]' || fail "the shared library has no soname"
bash -n "$root/share/bash-completion/completions/weft-perf"

diff <(tail -n +2 examples/hello.c) <(sed -n '/^```c$/,/^```$/{/^```/d;p}' README.md) ||
    fail "README.md shows another program than examples/hello.c"

flags=$(pkg-config --cflags --libs weft)
# shellcheck disable=SC2086 # flags are several words
${CC:-gcc} -Wall -Wextra -Werror examples/hello.c $flags -o "$place/hello"
# shellcheck disable=SC2046
${CC:-gcc} examples/hello.c $(pkg-config --cflags weft) "$root/lib/libweft.a" -pthread -ldl -lm -o "$place/hello-static"
if command -v g++ >/dev/null; then
    # shellcheck disable=SC2086
    g++ -Wall -Wextra -Werror -x c++ examples/hello.c -x none $flags -o "$place/hello-c++"
fi

export LD_LIBRARY_PATH=$root/lib
for program in hello hello-static hello-c++; do
    [ -x "$place/$program" ] || continue
    [ "$("$place/$program")" = "rank 0 of 1: the sum is 1" ] || fail "$program: wrong output as one rank"
done

# The larger example, alone and under mpirun where that is.
# shellcheck disable=SC2086
${CC:-gcc} -std=c11 -Wall -Wextra -Werror examples/sgd.c $flags -o "$place/sgd"
line='y = 3.00 x -2.00, loss [0-9.e-]*'
"$place/sgd" | grep -qx "1 ranks: $line" || { "$place/sgd"; fail "sgd: wrong output as one rank"; }
mpirun=$(command -v mpirun.openmpi || true)
if [ -n "$mpirun" ]; then
    "$mpirun" --oversubscribe -n 3 "$place/sgd" >"$place/sgd.out" 2>&1 ||
        { cat "$place/sgd.out"; fail "sgd failed under mpirun"; }
    grep -qx "3 ranks: $line" "$place/sgd.out" || { cat "$place/sgd.out"; fail "sgd: wrong output of three ranks"; }
else
    echo "Open MPI's mpirun (package openmpi-bin) is not there: sgd was not tried with it"
fi

# Two ranks, by torchrun's variables and a file to meet at.
export WORLD_SIZE=2 WEFT_RENDEZVOUS=file://$place/meet
RANK=1 "$place/hello" >"$place/rank1" &
other=$!
RANK=0 "$place/hello" >"$place/rank0" || fail "rank 0 failed"
wait $other || fail "rank 1 failed"
[ "$(cat "$place/rank0" "$place/rank1")" = "rank 0 of 2: the sum is 3
rank 1 of 2: the sum is 3" ] || { cat "$place/rank0" "$place/rank1"; fail "wrong sums"; }

# Straight into a place where the dynamic linker looks, a program finds the library at once. In a mount namespace, with a copy of
# /etc, so that the machine's own cache stays as it is.
into_linkers_place() {
    cp -a /etc "$place/etc" 2>/dev/null
    mount --bind "$place/etc" /etc || return
    echo "$place/local/lib" >/etc/ld.so.conf.d/weft-test.conf
    $make --no-print-directory BUILD="$BUILD" PREFIX="$place/local" install >"$place/log" 2>&1 || { cat "$place/log"; return 1; }
    unset LD_LIBRARY_PATH WORLD_SIZE
    "$place/hello"
}
if unshare --mount true 2>/dev/null; then
    export make place
    unshare --mount bash -c "$(declare -f into_linkers_place); into_linkers_place" >"$place/out" 2>&1 ||
        { cat "$place/out"; fail "a program does not find the library that was installed for it"; }
else
    echo "no mount namespace to be had here: not installed where the dynamic linker looks"
fi

$make --no-print-directory BUILD="$BUILD" PREFIX=/opt/weft DESTDIR="$place" uninstall >"$place/log" 2>&1 ||
    { cat "$place/log"; fail "make uninstall failed"; }
left=$(find "$root" ! -type d; find "$root" -mindepth 1 -name 'weft*')
[ -z "$left" ] || fail "make uninstall left $left"
echo "installed, compiled, run and taken away again"
