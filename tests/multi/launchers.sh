#!/bin/bash
# time limit: 240 s
# Ranks find each other under real launchers with nothing configured (Open MPI's mpirun by PMIx, MPICH's mpiexec by PMI), and by
# torchrun's variables with an alien service sitting on MASTER_PORT; a launcher's exit code stays 0. Open MPI must be there, MPICH
# is used when it is.
set -u

# Open MPI and PMIx end with memory that they have not freed; a sanitizer build must not call that our leak.
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0

place=$(mktemp -d)
server=
trap '[ -n "$server" ] && kill "$server" 2>/dev/null; rm -rf "$place"' EXIT
fail() {
    echo "$*"
    exit 1
}

program=$place/launched
flags=
case $BUILD in
*asan) flags=-fsanitize=address,undefined ;;
*tsan) flags=-fsanitize=thread ;;
esac
# shellcheck disable=SC2086
${CC:-gcc} -std=gnu11 -g -Wall -Wextra $flags -Iinclude -Isrc tests/multi/launched.c "$BUILD/lib/libweft.a" -o "$program" \
    -pthread -ldl -lm ||
    fail "cannot build the test program"

# Output file $1 must show $2 ranks, each at each of $3 rounds, all by launcher $4.
expect() {
    local expected
    expected=$(for round in $(seq "$3"); do for rank in $(seq 0 $(($2 - 1))); do
        echo "rank $rank of $2 by $4, round $round: good"
    done; done | sort)
    [ "$(grep '^rank' "$1" | sort)" = "$expected" ] || { cat "$1"; fail "$4: wrong output"; }
    # A launcher complains about ranks that ended without its finalize.
    grep -Eiq 'improper|abnormal|killed|BAD TERMINATION' "$1" && { cat "$1"; fail "$4: the launcher complains"; }
    echo "$4: $2 ranks met $3 times"
}

openmpi=$(command -v mpirun.openmpi)
[ -n "$openmpi" ] || { echo "Open MPI's mpirun (package openmpi-bin) is not there"; exit 77; }
for ranks in 1 2 5; do
    timeout 60 "$openmpi" --oversubscribe -n $ranks "$program" 2 >"$place/out" 2>&1 || { cat "$place/out"; fail "mpirun failed"; }
    expect "$place/out" $ranks 2 "Open MPI"
done
# PMIx alone, as under srun --mpi=pmix: rank and size from there too.
# shellcheck disable=SC2016
timeout 60 "$openmpi" --oversubscribe -n 3 sh -c \
    'unset OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE; exec "$@"' sh "$program" 1 >"$place/out" 2>&1 ||
        { cat "$place/out"; fail "PMIx failed"; }
expect "$place/out" 3 1 "PMIx"

hydra=$(command -v mpiexec.hydra)
if [ -n "$hydra" ]; then
    for ranks in 1 2 5; do
        timeout 60 "$hydra" -n $ranks "$program" 2 >"$place/out" 2>&1 || { cat "$place/out"; fail "mpiexec.hydra failed"; }
        expect "$place/out" $ranks 2 "MPICH"
    done
else
    echo "MPICH's mpiexec.hydra (package mpich) is not there: not tried"
fi

# torchrun's variables; on MASTER_PORT a service that takes connections and says nothing, as torchrun's store does.
python3 - "$place/port" <<'PYTHON' &
import os, random, socket, sys
listener = None
while not listener:
    try: # below the ports that connections of other tests are given: those after it are wanted too
        listener = socket.create_server(("127.0.0.1", random.randrange(20000, 32000)), backlog=64)
    except OSError:
        pass
with open(sys.argv[1] + ".new", "w") as out:
    out.write(str(listener.getsockname()[1]))
os.rename(sys.argv[1] + ".new", sys.argv[1])
held = []
while True:
    held.append(listener.accept())
PYTHON
server=$!
while [ ! -e "$place/port" ]; do
    kill -0 $server 2>/dev/null || fail "python3 failed"
    sleep 0.05
done
export MASTER_ADDR=127.0.0.1 WORLD_SIZE=4 TORCHELASTIC_RUN_ID=test TORCHELASTIC_RESTART_COUNT=0
MASTER_PORT=$(cat "$place/port")
export MASTER_PORT
processes=()
for rank in 3 2 1 0; do
    RANK=$rank timeout 60 "$program" 2 >"$place/rank$rank" 2>&1 &
    processes+=($!)
done
for process in "${processes[@]}"; do
    wait "$process" || { cat "$place"/rank*; fail "torchrun's variables failed"; }
done
cat "$place"/rank? >"$place/out"
expect "$place/out" 4 2 torchrun
