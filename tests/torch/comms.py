#!/usr/bin/env python3
# torchcomms on Weft: torchcomms loads the library by its entry point, and every operation gives what plain torch gives, in three
# ranks; works, splits, abort. Runs where TORCH_PYTHON has torchcomms and `make torchcomms` was run. Started again as each rank.
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "multi", "support"))
import jobs  # noqa: E402
import torch_ranks  # noqa: E402

if not torch_ranks.is_rank():
    library = os.path.join(torch_ranks.BUILD, "python", "weft_torchcomms", "libweft-torchcomms.so")
    found = subprocess.run([torch_ranks.PYTHON, "-c",
                            "import importlib.util as u, sys; sys.exit(u.find_spec('torchcomms') is None)"],
                           env=torch_ranks.environment(), stderr=subprocess.DEVNULL, check=False)
    if found.returncode:
        jobs.skip(f"{torch_ranks.PYTHON} has no torchcomms")
    if not os.path.exists(library):
        jobs.skip(f"{library} is not built: make torchcomms TORCHCOMMS=...")
    torch_ranks.run_ranks(__file__, 3)

import torch  # noqa: E402
import torchcomms  # noqa: E402
from torchcomms import ReduceOp  # noqa: E402

RANK, SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
CPU = torch.device("cpu")


def same(what, got, expected):
    if got.dtype != expected.dtype or not torch.equal(got, expected):
        sys.exit(f"rank {RANK}: {what}: {got.flatten()[:12]} instead of {expected.flatten()[:12]}")


def raises(words, function, *arguments):
    try:
        function(*arguments)
    except RuntimeError as error:
        if not all(word in str(error) for word in words):
            sys.exit(f"rank {RANK}: '{error}' does not name {words}")
        return
    sys.exit(f"rank {RANK}: no error that names {words}")


def data(rank, count, dtype, salt=0):
    return torch.tensor([(3 * rank + 5 * i + salt) % 4 for i in range(count)]).to(dtype)


def every(function):
    return [function(rank) for rank in range(SIZE)]


def run(how, operation, *arguments):
    """Blocking, waited for, or polled until it is complete."""
    work = operation(*arguments, how != "blocking")
    if how == "waited":
        work.wait()
    while how == "polled" and not work.is_completed():
        pass
    assert work.is_completed(), f"{operation} is not complete"


def reductions(comm, how, dtype):
    inputs = every(lambda r: data(r, 12, dtype))
    whole = torch.stack(inputs).to(torch.float64)
    for op, expected in ((ReduceOp.SUM, whole.sum(0)), (ReduceOp.PRODUCT, whole.prod(0)), (ReduceOp.MIN, whole.min(0).values),
                         (ReduceOp.MAX, whole.max(0).values)):
        expected = expected.to(dtype)
        x = inputs[RANK].clone()
        run(how, comm.all_reduce, x, op)
        same(f"all_reduce {dtype} {how}", x, expected)
        x = inputs[RANK].clone()
        run(how, comm.reduce, x, 1, op)
        if RANK == 1:
            same(f"reduce {dtype} {how}", x, expected)
        out = torch.empty(4, dtype=dtype)
        run(how, comm.reduce_scatter_single, out, inputs[RANK], op)
        same(f"reduce_scatter_single {dtype} {how}", out, expected[4 * RANK:4 * RANK + 4])
        out = torch.empty(4, dtype=dtype)
        run(how, comm.reduce_scatter, out, list(inputs[RANK].split(4)), op)
        same(f"reduce_scatter {dtype} {how}", out, expected[4 * RANK:4 * RANK + 4])
        sizes = [2, 4, 6]
        out = torch.empty(sizes[RANK], dtype=dtype)
        run(how, comm.reduce_scatter_v, out, list(inputs[RANK].split(sizes)), op)
        same(f"reduce_scatter_v {dtype} {how}", out, expected.split(sizes)[RANK])


def moving(comm, how, dtype):
    inputs = every(lambda r: data(r, 3 * SIZE, dtype))
    mine, firsts = inputs[RANK], every(lambda r: inputs[r][:3].clone())
    x = mine.clone()
    run(how, comm.broadcast, x, 2)
    same(f"broadcast {dtype}", x, inputs[2])
    parts = every(lambda r: torch.empty(3, dtype=dtype))
    run(how, comm.all_gather, parts, firsts[RANK])
    same(f"all_gather {dtype}", torch.stack(parts), torch.stack(firsts))
    parts = every(lambda r: torch.empty(r + 1, dtype=dtype))
    run(how, comm.all_gather_v, parts, mine[:RANK + 1])
    for r in range(SIZE):
        same(f"all_gather_v {dtype}", parts[r], inputs[r][:r + 1])
    flat = torch.empty(3 * SIZE, dtype=dtype)
    run(how, comm.all_gather_single, flat, firsts[RANK])
    same(f"all_gather_single {dtype}", flat, torch.cat(firsts))
    run(how, comm.all_to_all_single, flat, mine)
    transposed = torch.cat(every(lambda r: inputs[r][3 * RANK:3 * RANK + 3]))
    same(f"all_to_all_single {dtype}", flat, transposed)
    parts = every(lambda r: torch.empty(3, dtype=dtype))
    run(how, comm.all_to_all, parts, list(mine.split(3)))
    same(f"all_to_all {dtype}", torch.cat(parts), transposed)
    # Rank r sends (r + to) % 3 elements to rank `to`; both tensors have room left.
    out = torch.zeros(3 * SIZE, dtype=dtype)
    run(how, comm.all_to_all_v_single, out, mine, every(lambda r: (r + RANK) % 3), every(lambda r: (RANK + r) % 3))
    starts = every(lambda r: sum((r + to) % 3 for to in range(RANK)))
    got = torch.cat(every(lambda r: inputs[r][starts[r]:starts[r] + (r + RANK) % 3]))
    same(f"all_to_all_v_single {dtype}", out, torch.cat([got, torch.zeros(3 * SIZE - len(got), dtype=dtype)]))
    parts = every(lambda r: torch.empty(3, dtype=dtype)) if RANK == 1 else []
    run(how, comm.gather, parts, firsts[RANK], 1)
    if RANK == 1:
        same(f"gather {dtype}", torch.stack(parts), torch.stack(firsts))
    out = torch.empty(3, dtype=dtype)
    run(how, comm.scatter, out, list(mine.split(3)) if RANK == 2 else [], 2)
    same(f"scatter {dtype}", out, inputs[2][3 * RANK:3 * RANK + 3])


def messages(comm):
    right, left = (RANK + 1) % SIZE, (RANK - 1) % SIZE
    got = torch.empty(5)
    works = [comm.send(torch.full((5,), float(RANK)), right, True), comm.recv(got, left, True)]
    for work in works:
        work.wait()
    same("send and recv", got, torch.full((5,), float(left)))
    batch = comm.batch_op_create()
    got = torch.empty(5)
    batch.send(torch.full((5,), float(10 + RANK)), right)
    batch.recv(got, left)
    batch.issue(False)
    same("batch", got, torch.full((5,), 10.0 + left))


def others(comm):
    x = torch.full((4,), float(3 * RANK))
    comm.all_reduce(x, ReduceOp.AVG, False)
    same("average", x, torch.full((4,), 3.0))
    x = torch.full((4,), float(RANK + 1))
    comm.all_reduce(x, ReduceOp.PREMUL_SUM(0.5), False)
    same("premultiplied sum", x, torch.full((4,), 3.0))
    x = torch.tensor([RANK + 1, 2 * RANK, 7], dtype=torch.int32)
    comm.all_reduce(x, ReduceOp.BXOR, False)
    same("bxor", x, torch.tensor([1 ^ 2 ^ 3, 0 ^ 2 ^ 4, 7], dtype=torch.int32))
    part = comm.split([0, 2] if RANK != 1 else [], "pair")
    if RANK != 1:
        x = torch.ones(3)
        part.all_reduce(x, ReduceOp.SUM, False)
        same("split", x, torch.full((3,), 2.0))
        assert (part.get_size(), part.get_rank()) == (2, RANK // 2)
        part.finalize()
    second = torchcomms.new_comm("weft", CPU, name="second")
    second.barrier(False)
    comm.barrier(False)  # all are out of the other barrier
    if RANK == 0:
        second.abort()
    raises(["abort"], second.barrier, False)
    second.finalize()
    raises(["finalized"], second.barrier, False)


def main():
    comm = torchcomms.new_comm("weft", CPU, name="main")
    assert (comm.get_backend(), comm.get_rank(), comm.get_size()) == ("weft", RANK, SIZE)
    for how in ("blocking", "waited", "polled"):
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int32, torch.int64, torch.int8):
            reductions(comm, how, dtype)
            moving(comm, how, dtype)
        moving(comm, how, torch.bool)
        run(how, comm.barrier)
    messages(comm)
    others(comm)
    comm.finalize()
    print("torchcomms on weft: good")


main()
