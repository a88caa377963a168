# For the tests that run MPI programs which know nothing of Weft, with it and without. Sourced. A way is how Weft comes in: openmpi
# and mpich by LD_PRELOAD, ompi-coll as a component of Open MPI.

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
fail() {
    echo "$*"
    exit 1
}

case $BUILD in
*asan | *tsan)
    echo "a sanitizer build cannot be loaded into other programs"
    exit 77
    ;;
esac
rounds=${MPI_ROUNDS:-100}

# mpi_of WAY: the MPI of that way.
mpi_of() {
    [ "$1" = ompi-coll ] && echo openmpi || echo "$1"
}
# launch MPI RANKS COMMAND...
launch() {
    local mpi=$1 ranks=$2 options=()
    shift 2
    [ "$mpi" = openmpi ] && options=(--oversubscribe)
    timeout 100 "mpirun.$mpi" "${options[@]}" -n "$ranks" "$@"
}
# with_weft WAY RANKS COMMAND...: the same on Weft, with its report.
with_weft() {
    local way=$1 ranks=$2
    shift 2
    if [ "$way" = ompi-coll ]; then
        OMPI_MCA_mca_base_component_path="$PWD/$BUILD/lib/openmpi:$(ompi_info --parsable --path pkglibdir | cut -d: -f3)" \
            launch openmpi "$ranks" env WEFT_MPI_REPORT=1 "$@"
    else
        launch "$way" "$ranks" env WEFT_MPI_REPORT=1 LD_PRELOAD="$PWD/$BUILD/lib/$way/libweft-mpi.so" "$@"
    fi
}
# served FILE NAME: the report in the file says that calls of this name were served.
served() {
    awk -v name="$2" '$1 == "weft-mpi:" && $2 == name && $3 > 0 { found = 1 } END { exit !found }' "$1" ||
        { cat "$1"; fail "the report does not say that $2 was served"; }
}
# compile MPI SOURCE PROGRAM [OPTION...]  (gcc takes MPICH's MPI_STATUSES_IGNORE, which is 1, for an array that is too small.)
compile() {
    "mpicc.$1" -std=gnu11 -g -Wall -Wextra -Wno-stringop-overflow "tests/multi/support/$2" -o "$place/$3" "${@:4}" ||
        fail "$1: cannot build the test program $2"
}

random_calls() {
    local way=$1 ranks=$2 seed=$3 mpi rank name
    mpi=$(mpi_of "$way")
    compile "$mpi" mpi_random.c random
    launch "$mpi" "$ranks" "$place/random" "$seed" "$rounds" "$place/plain" blocking >"$place/log" 2>&1 ||
        { cat "$place/log"; fail "$mpi: the program fails without Weft"; }
    with_weft "$way" "$ranks" "$place/random" "$seed" "$rounds" "$place/weft" >"$place/log" 2>&1 ||
        { cat "$place/log"; fail "$way: the program fails on Weft"; }
    for rank in $(seq 0 $((ranks - 1))); do
        cmp -s "$place/plain.$rank" "$place/weft.$rank" ||
            { diff "$place/plain.$rank" "$place/weft.$rank" | head; fail "$way: rank $rank has other results on Weft"; }
        [ "$(wc -l <"$place/weft.$rank")" -gt "$rounds" ] || fail "$way: rank $rank wrote too little"
    done
    for name in Barrier Bcast Reduce Allreduce Reduce_scatter_block Reduce_scatter Gather Gatherv Scatter Scatterv Allgather \
        Allgatherv Alltoall Alltoallv; do
        served "$place/log" $name
    done
    echo "$way: $(wc -l <"$place/weft.0") results of $ranks ranks are the same"
}

fortran_calls() {
    local way=$1 mpi
    mpi=$(mpi_of "$way")
    if ! command -v gfortran >/dev/null ||
        ! "mpifort.$mpi" -w -J"$place" tests/multi/support/mpi_fortran.f90 -o "$place/fortran" >"$place/log" 2>&1; then
        echo "$mpi: Fortran (packages gfortran and lib$mpi-dev) is not there: not tried"
        return
    fi
    launch "$mpi" 3 "$place/fortran" >"$place/plain.out" 2>&1 ||
        { cat "$place/plain.out"; fail "$mpi: Fortran fails without Weft"; }
    with_weft "$way" 3 "$place/fortran" >"$place/weft.out" 2>"$place/log" ||
        { cat "$place/log"; fail "$way: Fortran fails on Weft"; }
    diff "$place/plain.out" "$place/weft.out" || fail "$way: Fortran has other results on Weft"
    for name in Bcast Reduce Allreduce Allgatherv Alltoall; do
        served "$place/log" $name
    done
    echo "$way: Fortran is served"
}

threaded_calls() {
    local way=$1 code
    compile "$(mpi_of "$way")" mpi_threads.c threads -pthread
    with_weft "$way" 2 "$place/threads" >"$place/log" 2>&1
    code=$?
    if [ $code -eq 77 ]; then
        echo "$way: has no MPI_THREAD_MULTIPLE: not tried"
        return
    fi
    [ $code -eq 0 ] && grep -q 'threads: good' "$place/log" || { cat "$place/log"; fail "$way: threads fail on Weft"; }
    served "$place/log" Allreduce
    echo "$way: threads are served"
}

# On Weft only: freeing a communicator or a type while it is in use is a fault of Open MPI 4.1 itself.
lifetimes() {
    local way=$1
    compile "$(mpi_of "$way")" mpi_lifetimes.c lifetimes
    with_weft "$way" 3 "$place/lifetimes" >"$place/log" 2>&1 && grep -q 'lifetimes: good' "$place/log" ||
        { cat "$place/log"; fail "$way: what is freed under way fails on Weft"; }
    served "$place/log" Allgather
    echo "$way: types and communicators may be freed under way"
}
# few_ranks WAY: a program may end whose last rank has used no collective.
few_ranks() {
    local way=$1
    compile "$(mpi_of "$way")" mpi_few.c few
    with_weft "$way" 3 "$place/few" >"$place/log" 2>&1 && grep -q 'few: good' "$place/log" ||
        { cat "$place/log"; fail "$way: a program does not end whose last rank used no collective"; }
    grep -q 'weft-mpi: rank 0 of 3 alone' "$place/log" && served "$place/log" Allreduce
    echo "$way: not all ranks must use collectives"
}
