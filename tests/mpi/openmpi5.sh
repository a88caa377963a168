#!/bin/bash
# libweft-mpi.so with Open MPI 5: built and tested in a Debian 13 in a folder (made once; root, network).
# time limit: 900 s
set -eu
cd "$(dirname "$0")/../.."
folder=${DEBIAN13_FOLDER:-$PWD/build/debian13}
if [ "$(id -u)" -ne 0 ]; then
    echo "a Debian 13 in a folder needs root"
    exit 77
fi
perf/compare/debian13 mpi "$folder"
# Its libc is newer, so everything is built inside, in a build folder of its own. Without its TCP, which complains of the folder's
# network on stderr: ranks are of one host.
perf/compare/debian13 run "$folder" "$PWD" sh -ec "cd '$PWD'
    export BUILD=build/debian13-mpi OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl=self,sm
    make --no-print-directory CC=gcc \$BUILD/lib/libweft.so.0.1.0 mpi
    mpirun.openmpi --version | head -n 1
    tests/multi/mpi_preload.sh"
