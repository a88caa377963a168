#!/bin/bash
# weft_torch with torch 2.6: built and tested in a Debian 13 in a folder (made once; root, network, 3 GB). DEBIAN_SUITE=forky and
# another DEBIAN13_FOLDER: with the next Debian and its torch.
# time limit: 1500 s
set -eu
cd "$(dirname "$0")/../.."
folder=${DEBIAN13_FOLDER:-$PWD/build/debian13}
if [ "$(id -u)" -ne 0 ]; then
    echo "a Debian 13 in a folder needs root"
    exit 77
fi
perf/compare/debian13 torch "$folder"
# Its libc is newer, so everything is built inside, in a build folder of its own.
perf/compare/debian13 run "$folder" "$PWD" sh -ec "cd '$PWD'
    export BUILD=build/${DEBIAN_SUITE:-debian13}-torch TORCH_PYTHON=/usr/bin/python3 USE_LIBUV=0
    make --no-print-directory CC=gcc \$BUILD/lib/libweft.so.0.1.0 pytorch
    tests/multi/pytorch_operations.py
    TRAIN_FSDP=1 tests/multi/pytorch_training.py"
