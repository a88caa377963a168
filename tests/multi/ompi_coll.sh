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
