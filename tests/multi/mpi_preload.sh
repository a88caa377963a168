#!/bin/bash
# time limit: 240 s
# MPI programs that know nothing of Weft, with libweft-mpi.so preloaded and without: the same results, and the report says that
# Weft served them. Random collectives in C, the bindings of Fortran. For each MPI that there is; MPI_ROUNDS=1000 for longer.
set -u
. tests/multi/support/mpi.bash

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
    lifetimes $mpi
    few_ranks $mpi
done
[ $tried -gt 0 ] || { echo "no MPI with its compiler (libopenmpi-dev or libmpich-dev) is there"; exit 77; }
