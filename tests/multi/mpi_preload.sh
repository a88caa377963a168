#!/bin/bash
# time limit: 240 s
# MPI programs that know nothing of Weft, with libweft-mpi.so preloaded and without: the same results, and the report says that
# Weft served them. Random collectives in C, the bindings of Fortran. For each MPI that there is; MPI_ROUNDS=1000 for longer.
set -u

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
fail() {
    echo "$*"
    exit 1
}

case $BUILD in
*asan | *tsan)
    echo "a sanitizer build cannot be preloaded into other programs"
    exit 77
    ;;
esac
rounds=${MPI_ROUNDS:-100}

# launch MPI RANKS COMMAND...
launch() {
    local mpi=$1 ranks=$2 options=()
    shift 2
    [ "$mpi" = openmpi ] && options=(--oversubscribe)
    timeout 100 "mpirun.$mpi" "${options[@]}" -n "$ranks" "$@"
}
# with_weft MPI RANKS COMMAND...: the same on Weft, with its report.
with_weft() {
    local mpi=$1 ranks=$2
    shift 2
    launch "$mpi" "$ranks" env WEFT_MPI_REPORT=1 LD_PRELOAD="$PWD/$BUILD/lib/$mpi/libweft-mpi.so" "$@"
}
# served FILE NAME: the report in the file says that calls of this name were served.
served() {
    awk -v name="$2" '$1 == "weft-mpi:" && $2 == name && $3 > 0 { found = 1 } END { exit !found }' "$1" ||
        { cat "$1"; fail "the report does not say that $2 was served"; }
}

random_calls() {
    local mpi=$1 ranks=$2 seed=$3 rank name
    # (gcc takes MPICH's MPI_STATUSES_IGNORE, which is 1, for an array that is too small.)
    "mpicc.$mpi" -std=gnu11 -g -Wall -Wextra -Wno-stringop-overflow tests/multi/support/mpi_random.c -o "$place/random" ||
        fail "$mpi: cannot build the test program"
    launch "$mpi" "$ranks" "$place/random" "$seed" "$rounds" "$place/plain" blocking >"$place/log" 2>&1 ||
        { cat "$place/log"; fail "$mpi: the program fails without Weft"; }
    with_weft "$mpi" "$ranks" "$place/random" "$seed" "$rounds" "$place/weft" >"$place/log" 2>&1 ||
        { cat "$place/log"; fail "$mpi: the program fails on Weft"; }
    for rank in $(seq 0 $((ranks - 1))); do
        cmp -s "$place/plain.$rank" "$place/weft.$rank" ||
            { diff "$place/plain.$rank" "$place/weft.$rank" | head; fail "$mpi: rank $rank has other results on Weft"; }
        [ "$(wc -l <"$place/weft.$rank")" -gt "$rounds" ] || fail "$mpi: rank $rank wrote too little"
    done
    for name in Barrier Bcast Reduce Allreduce Reduce_scatter_block Reduce_scatter Gather Gatherv Scatter Scatterv Allgather \
        Allgatherv Alltoall Alltoallv; do
        served "$place/log" $name
    done
    echo "$mpi: $(wc -l <"$place/weft.0") results of $ranks ranks are the same"
}

fortran_calls() {
    local mpi=$1
    if ! command -v gfortran >/dev/null ||
        ! "mpifort.$mpi" -w -J"$place" tests/multi/support/mpi_fortran.f90 -o "$place/fortran" >"$place/log" 2>&1; then
        echo "$mpi: Fortran (packages gfortran and lib$mpi-dev) is not there: not tried"
        return
    fi
    launch "$mpi" 3 "$place/fortran" >"$place/plain.out" 2>&1 ||
        { cat "$place/plain.out"; fail "$mpi: Fortran fails without Weft"; }
    with_weft "$mpi" 3 "$place/fortran" >"$place/weft.out" 2>"$place/log" ||
        { cat "$place/log"; fail "$mpi: Fortran fails on Weft"; }
    diff "$place/plain.out" "$place/weft.out" || fail "$mpi: Fortran has other results on Weft"
    for name in Bcast Reduce Allreduce Allgatherv Alltoall; do
        served "$place/log" $name
    done
    echo "$mpi: Fortran is served"
}

threaded_calls() {
    local mpi=$1 code
    "mpicc.$mpi" -std=gnu11 -Wall -Wextra -Wno-stringop-overflow tests/multi/support/mpi_threads.c -o "$place/threads" -pthread ||
        fail "$mpi: cannot build the program with threads"
    with_weft "$mpi" 2 "$place/threads" >"$place/log" 2>&1
    code=$?
    if [ $code -eq 77 ]; then
        echo "$mpi: has no MPI_THREAD_MULTIPLE: not tried"
        return
    fi
    [ $code -eq 0 ] && grep -q 'threads: good' "$place/log" || { cat "$place/log"; fail "$mpi: threads fail on Weft"; }
    served "$place/log" Allreduce
    echo "$mpi: threads are served"
}

tried=0
for mpi in openmpi mpich; do
    if [ ! -e "$BUILD/lib/$mpi/libweft-mpi.so" ] || ! command -v "mpirun.$mpi" >/dev/null; then
        echo "$mpi (packages lib$mpi-dev and its launcher) is not there: not tried"
        continue
    fi
    tried=$((tried + 1))
    random_calls $mpi 3 1
    [ "$rounds" -le 100 ] || for seed in 2 3; do random_calls $mpi 4 $seed; done
    fortran_calls $mpi
    threaded_calls $mpi
done
[ $tried -gt 0 ] || { echo "no MPI with its compiler (libopenmpi-dev or libmpich-dev) is there"; exit 77; }
