#!/bin/bash
# time limit: 240 s
# The component of Open MPI, mca_coll_weft.so: ompi_info shows it, programs get the same results with it and without, the report
# says that it served them, and its priority decides.
set -u
. tests/multi/support/mpi.bash

if [ ! -e "$BUILD/lib/openmpi/mca_coll_weft.so" ] || ! command -v mpirun.openmpi >/dev/null; then
    echo "the component was not built: it needs the headers of the inside of Open MPI 4.1 (libopenmpi-dev) and its launcher"
    exit 77
fi

OMPI_MCA_mca_base_component_path=$PWD/$BUILD/lib/openmpi ompi_info --param coll weft --level 9 >"$place/log" 2>&1
grep -q 'coll_weft_priority.*current value: "90"' "$place/log" ||
    { cat "$place/log"; fail "ompi_info does not show the component"; }

random_calls ompi-coll 3 1
[ "$rounds" -le 100 ] || for seed in 2 3; do random_calls ompi-coll 4 $seed; done
fortran_calls ompi-coll
threaded_calls ompi-coll
lifetimes ompi-coll
few_ranks ompi-coll

# Below the lowest of Open MPI's own, which has 10, then not at all.
launch openmpi 2 "$place/random" 1 20 "$place/plain" blocking >"$place/log" 2>&1 ||
    { cat "$place/log"; fail "fails without Weft"; }
for priority in 5 0 -1; do
    OMPI_MCA_coll_weft_priority=$priority with_weft ompi-coll 2 "$place/random" 1 20 "$place/weft" blocking >"$place/log" 2>&1 ||
        { cat "$place/log"; fail "fails with priority $priority"; }
    cmp "$place/plain.0" "$place/weft.0" || fail "other results with priority $priority"
    ! grep -q 'weft-mpi: .*[1-9]' "$place/log" || { cat "$place/log"; fail "priority $priority does not keep it away"; }
done
echo "its priority decides"

# Also what Weft does not have is in the report, so that nobody takes it for served.
cat >"$place/passed.c" <<'C'
#include <mpi.h>
int main(int argc, char **argv)
{
    int one = 1, all[2], size, periodic = 1;
    MPI_Comm ring;
    MPI_Request request;
    MPI_Init(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Iscan(&one, all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    MPI_Cart_create(MPI_COMM_WORLD, 1, &size, &periodic, 0, &ring);
    MPI_Neighbor_allgather(&one, 1, MPI_INT, all, 1, MPI_INT, ring);
    MPI_Ineighbor_alltoall((int[2]){1, 1}, 1, MPI_INT, all, 1, MPI_INT, ring, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    if (all[0] != 1 || all[1] != 1)
        MPI_Abort(MPI_COMM_WORLD, 3);
    return MPI_Finalize();
}
C
mpicc.openmpi "$place/passed.c" -o "$place/passed" || fail "passed.c"
with_weft ompi-coll 2 "$place/passed" >"$place/log" 2>&1 || { cat "$place/log"; fail "what is passed on fails"; }
for name in Scan Neighbor_allgather Neighbor_alltoall; do
    grep -q "weft-mpi: *$name  *0  *0  *2 " "$place/log" || { cat "$place/log"; fail "the report does not count $name"; }
done
echo "the report counts what is passed on"
