#!/usr/bin/env python3
# torch.distributed on Weft: every operation and dtype against plain torch, in three ranks; works, futures, groups, errors. Runs
# where torch is installed and weft_torch is built. Started again as each rank.
import datetime
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
import torch_ranks  # noqa: E402

if not torch_ranks.is_rank():
    torch_ranks.skip_without_torch()
    torch_ranks.run_ranks(__file__, 3)

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
import weft_torch  # noqa: E402

RANK, SIZE = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
TORCH_2 = int(torch.__version__.split(".", maxsplit=1)[0]) >= 2
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
COMPLEX = [torch.complex64, torch.complex128]


def same(what, got, expected):
    if got.dtype != expected.dtype or not torch.equal(got, expected):
        sys.exit(f"rank {RANK}: {what}: {got.flatten()[:12]} instead of {expected.flatten()[:12]}")


def raises(words, function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except (RuntimeError, ValueError) as error:
        if not all(word in str(error) for word in words):
            sys.exit(f"rank {RANK}: '{error}' does not name {words}")
        return
    sys.exit(f"rank {RANK}: no error that names {words}")


def data(rank, count, dtype, salt=0):
    """Small numbers, so that every sum and product is exact in every type."""
    values = torch.tensor([(3 * rank + 5 * i + salt) % 4 for i in range(count)])
    return values.to(dtype) * (1 + 1j) if dtype.is_complex else values.to(dtype)


def every(function):
    return [function(rank) for rank in range(SIZE)]


def backend():
    """The object whose methods are weft's, in both versions."""
    group = dist.group.WORLD
    return group._get_backend(torch.device("cpu")) if hasattr(group, "_get_backend") else group


def reductions():
    operations = {dist.ReduceOp.SUM: lambda x: x.sum(0), dist.ReduceOp.PRODUCT: lambda x: x.prod(0),
                  dist.ReduceOp.MIN: lambda x: x.min(0).values, dist.ReduceOp.MAX: lambda x: x.max(0).values}
    for dtype in FLOATS + INTEGERS:
        for op, expected in operations.items():
            for count in (0, 1, 7, 5000):
                exact = expected(torch.stack(every(lambda r: data(r, count, torch.int64)))).to(dtype)
                x = data(RANK, count, dtype)
                dist.all_reduce(x, op=op)
                same(f"all_reduce {dtype} {count}", x, exact)
                x = data(RANK, count, dtype)
                dist.reduce(x, 1, op=op)
                if RANK == 1:
                    same(f"reduce {dtype} {count}", x, exact)
    for dtype in COMPLEX:
        x = data(RANK, 9, dtype)
        dist.all_reduce(x)
        same("complex sum", x, sum(every(lambda r: data(r, 9, dtype))))
    bits = every(lambda r: torch.tensor([r + 1, 2 * r, 7], dtype=torch.int32))
    x = bits[RANK].clone()
    dist.all_reduce(x, op=dist.ReduceOp.BXOR)
    same("bxor", x, bits[0] ^ bits[1] ^ bits[2])
    x = torch.tensor([RANK == 0, False, True])
    dist.all_reduce(x)
    same("or", x, torch.tensor([True, False, True]))
    x = torch.full((4,), float(3 * RANK))
    backend().allreduce([x], options(dist.ReduceOp.AVG)).wait()
    same("average", x, torch.full((4,), 3.0))
    x = torch.full((4,), float(RANK + 1))
    backend().allreduce([x], options(torch.distributed._make_nccl_premul_sum(0.5))).wait()
    same("premultiplied sum", x, torch.full((4,), 3.0))
    raises(["weft:all_reduce", "band", "Float"], dist.all_reduce, torch.ones(2), op=dist.ReduceOp.BAND)


def options(op):
    made = dist.AllreduceOptions()
    made.reduceOp = op
    return made


def no_single_piece():
    x = data(RANK, 24, torch.float32).reshape(4, 6).t()
    dist.all_reduce(x)
    same("transposed all_reduce", x, sum(every(lambda r: data(r, 24, torch.float32))).reshape(4, 6).t())
    y = torch.zeros(6, 4).t()
    if RANK == 0:
        y = data(0, 24, torch.float32).reshape(6, 4).t()
    dist.broadcast(y, 0)
    same("transposed broadcast", y, data(0, 24, torch.float32).reshape(6, 4).t())
    whole = torch.zeros(3, 10)
    dist.all_gather([whole[:, 1], whole[:, 3], whole[:, 5]], data(RANK, 3, torch.float32))
    for r in range(SIZE):
        same("columns", whole[:, 1 + 2 * r], data(r, 3, torch.float32))


def moving():
    for dtype in FLOATS + INTEGERS + COMPLEX + [torch.bool]:
        mine = data(RANK, 5, dtype)
        all_of_it = every(lambda r: data(r, 5, dtype))
        x = mine.clone()
        dist.broadcast(x, 2)
        same(f"broadcast {dtype}", x, all_of_it[2])
        parts = every(lambda r: torch.empty(5, dtype=dtype))
        dist.all_gather(parts, mine)
        same(f"all_gather {dtype}", torch.stack(parts), torch.stack(all_of_it))
        flat = torch.empty(SIZE * 5, dtype=dtype)
        dist.all_gather_into_tensor(flat, mine)
        same(f"_all_gather_base {dtype}", flat, torch.cat(all_of_it))
        parts = every(lambda r: torch.empty(5, dtype=dtype))
        dist.gather(mine, parts if RANK == 1 else None, 1)
        if RANK == 1:
            same(f"gather {dtype}", torch.stack(parts), torch.stack(all_of_it))
        x = torch.empty(5, dtype=dtype)
        dist.scatter(x, [t + t if dtype != torch.bool else t for t in all_of_it] if RANK == 2 else None, 2)
        same(f"scatter {dtype}", x, mine + mine if dtype != torch.bool else mine)
        out = torch.empty(6, dtype=dtype)
        dist.all_to_all_single(out, torch.cat([data(RANK, 2, dtype, salt=to) for to in range(SIZE)]))
        same(f"all_to_all {dtype}", out, torch.cat(every(lambda r: data(r, 2, dtype, salt=RANK))))


def coalesced_and_split():
    xs = [data(RANK, n, torch.float32) for n in (1, 1000, 3)] + [data(RANK, 6, torch.float32).reshape(2, 3).t()]
    expected = [sum(every(lambda r: data(r, n, torch.float32))) for n in (1, 1000, 3, 6)]
    made = dist.AllreduceCoalescedOptions()
    backend().allreduce_coalesced(xs, made).wait()
    for got, right in zip(xs, expected[:3] + [expected[3].reshape(2, 3).t()]):
        same("all_reduce_coalesced", got, right)
    outputs = every(lambda r: [torch.empty(2, 2), torch.empty(3, dtype=torch.int64)])
    work = backend().allgather_coalesced(outputs, [torch.full((2, 2), float(RANK)), torch.full((3,), RANK)])
    work.wait()
    for r in range(SIZE):
        same("all_gather_coalesced", outputs[r][0], torch.full((2, 2), float(r)))
        same("all_gather_coalesced", outputs[r][1], torch.full((3,), r))
    # Rank r sends r + to + 1 rows to rank `to`.
    rows = [RANK + to + 1 for to in range(SIZE)]
    sent = torch.cat([torch.full((n, 2), float(10 * RANK + to)) for to, n in enumerate(rows)])
    out = torch.empty(sum(rows), 2)
    dist.all_to_all_single(out, sent, output_split_sizes=rows, input_split_sizes=rows)
    same("all_to_all with splits", out, torch.cat([torch.full((r + RANK + 1, 2), float(10 * r + RANK)) for r in range(SIZE)]))
    got = [torch.empty(r + RANK + 1) for r in range(SIZE)]
    dist.all_to_all(got, [torch.full((n,), float(10 * RANK + to)) for to, n in enumerate(rows)])
    for r in range(SIZE):
        same("all_to_all of a list", got[r], torch.full((r + RANK + 1,), float(10 * r + RANK)))


def scattering():
    inputs = every(lambda to: data(RANK, 4, torch.float32, salt=to))
    expected = sum(every(lambda r: data(r, 4, torch.float32, salt=RANK)))
    out = torch.empty(4)
    dist.reduce_scatter(out, inputs)
    same("reduce_scatter", out, expected)
    out = torch.empty(4)
    dist.reduce_scatter_tensor(out, torch.cat(inputs))
    same("_reduce_scatter_base", out, expected)
    uneven = every(lambda to: torch.full((to + 1,), float(RANK)))
    out = torch.empty(RANK + 1)
    dist.reduce_scatter(out, uneven)
    same("uneven reduce_scatter", out, torch.full((RANK + 1,), 3.0))


def messages():
    following, before = (RANK + 1) % SIZE, (RANK - 1) % SIZE
    for count in (0, 3, 300000):
        x, y = torch.full((count,), float(RANK)), torch.empty(count)
        works = [dist.isend(x, following, tag=7), dist.irecv(y, before, tag=7)]
        for work in works:
            work.wait()
        same("ring", y, torch.full((count,), float(before)))
    if RANK == 0:
        seen = set()
        for _ in range(SIZE - 1):
            x = torch.empty(2)
            source = dist.recv(x)
            same("any source", x, torch.full((2,), float(source)))
            seen.add(source)
        if seen != {1, 2}:
            sys.exit(f"received from {seen}")
    else:
        dist.send(torch.full((2,), float(RANK)), 0)
    # A receive that is long under way holds up nobody's future.
    late = torch.empty(1)
    receive = dist.irecv(late, before, tag=9)
    future = backend().allreduce([torch.ones(2)], dist.AllreduceOptions()).get_future()
    same("future beside a receive", future.wait()[0], torch.full((2,), 3.0))
    dist.isend(torch.tensor([float(RANK)]), following, tag=9).wait()
    receive.wait()
    same("late", late, torch.tensor([float(before)]))


def sparse():
    for nonzero in (0, RANK, 3):
        places = [[(RANK + i) % 5 for i in range(nonzero)], list(range(nonzero))]
        indices = torch.tensor(places, dtype=torch.int64).reshape(2, nonzero)
        x = torch.sparse_coo_tensor(indices, torch.ones(nonzero, 2) * (RANK + 1), (5, 4, 2))
        parts = every(lambda r: torch.empty(5, 4, 2))
        dist.all_gather(parts, x.to_dense())
        backend().allreduce([x], dist.AllreduceOptions()).wait()
        same("sparse sum", x.to_dense(), sum(parts))


def works():
    x = torch.ones(5)
    work = dist.all_reduce(x, async_op=True)
    while not work.is_completed():
        pass
    assert work.wait()
    same("polled", x, torch.full((5,), 3.0))
    # Rank 0 does something else until the others' have ended, which need its part.
    store = dist.distributed_c10d._get_default_store()
    x = torch.ones(2000000)
    work = dist.all_reduce(x, async_op=True)
    if RANK == 0:
        store.wait(["ended by 1", "ended by 2"], datetime.timedelta(seconds=60))
        work.wait()
    else:
        work.wait()
        store.set(f"ended by {RANK}", "yes")
    same("in the background", x, torch.full((2000000,), 3.0))
    # A wait whose time runs out leaves it under way.
    x = torch.ones(3)
    if RANK == 0:
        work = dist.all_reduce(x, async_op=True)
        raises(["weft:all_reduce: rank 0 of 3", "timeout of 200 ms"], work.wait, datetime.timedelta(milliseconds=200))
        store.set("time has run out", "yes")
        work.wait()
    else:
        store.wait(["time has run out"], datetime.timedelta(seconds=60))
        dist.all_reduce(x)
    same("after a wait whose time ran out", x, torch.full((3,), 3.0))
    # Nobody waits for it: it ends all the same, and its callback runs.
    done = backend().allreduce([torch.ones(200000)], dist.AllreduceOptions()).get_future().then(lambda f: f.value()[0] / 3)
    same("callback", done.wait(), torch.ones(200000))
    # A callback that waits for another operation's future.
    def chained(_):
        return backend().allreduce([torch.ones(3)], dist.AllreduceOptions()).get_future().wait()[0]
    chain = backend().allreduce([torch.ones(3)], dist.AllreduceOptions()).get_future().then(chained)
    same("chained", chain.wait(), torch.full((3,), 3.0))
    lists = backend().allgather([every(lambda r: torch.empty(2))], [torch.full((2,), float(RANK))]).get_future().wait()
    same("future of a list", torch.stack(lists), torch.stack(every(lambda r: torch.full((2,), float(r)))))
    before = backend()._get_sequence_number_for_group() if hasattr(backend(), "_get_sequence_number_for_group") else 0
    dist.barrier()
    assert not before or backend()._get_sequence_number_for_group() == before + 1
    with torch.profiler.profile() as profile:
        dist.all_reduce(torch.ones(2))
    assert any(event.name == "weft:all_reduce" for event in profile.events()), "no weft:all_reduce in the profile"


def repeated():
    """A buffer reduced again and again is registered, and given back with its memory."""
    x = torch.ones(500000)
    for _ in range(4):
        x.fill_(RANK + 1)
        dist.all_reduce(x)
        same("registered", x, torch.full((500000,), 6.0))
    assert weft_torch.registered_bytes() >= x.numel() * 4, "the repeated buffer is not registered"
    # Rank 0's is registered, the others' are new each time.
    for _ in range(4):
        y = x if RANK == 0 else torch.empty(500000)
        y.fill_(RANK + 1)
        dist.all_reduce(y)
        same("registered on one rank", y, torch.full((500000,), 6.0))
    del x, y
    assert weft_torch.registered_bytes() == 0, "the registration outlives the memory"


def groups():
    pair = dist.new_group([0, 2])
    if RANK != 1:
        x = torch.ones(3)
        dist.all_reduce(x, group=pair)
        same("pair", x, torch.full((3,), 2.0))
        dist.barrier(group=pair)
        assert "shm" in weft_torch.describe("all_reduce", 8, group=pair)
    for _ in range(3):
        monitored(datetime.timedelta(seconds=20))
    # What a barrier writes into the store, one of the next takes away.
    before = keys_in_store()
    for _ in range(5):
        monitored(datetime.timedelta(seconds=20))
    left = keys_in_store() - before
    assert left == 0, f"five monitored barriers left {left} keys"
    if RANK == 0:
        raises(["Ranks 1, 2 failed to pass monitoredBarrier in 200 ms"], monitored, datetime.timedelta(milliseconds=200), True)


def keys_in_store():
    """While no rank changes it."""
    dist.barrier()
    keys = dist.distributed_c10d._get_default_store().num_keys()
    dist.barrier()
    return keys


def monitored(timeout, wait_all_ranks=False):
    backend().monitored_barrier(timeout, wait_all_ranks)


def failures():
    """Each in a group of its own, which it breaks."""
    slow = dist.new_group(timeout=datetime.timedelta(milliseconds=1500))
    if RANK == 0:
        raises(["weft:barrier: rank 0 of 3", " timeout of 1500 ms"], dist.barrier, group=slow)
    dist.barrier()
    disagreeing = dist.new_group()
    raises(["weft:", f"rank {RANK} of 3"], dist.all_reduce, torch.ones(2 + (RANK == 1)), group=disagreeing)
    dist.barrier()
    aborted = dist.new_group()
    if RANK == 0:
        weft_torch.abort(aborted)
    raises(["abort"], dist.barrier, group=aborted)
    raises(["one tensor"], backend().broadcast, [torch.ones(1)] * 2, dist.BroadcastOptions())
    if TORCH_2:
        raises(["weft:", "abort"], coalesced, aborted)


def coalesced(group):
    """Two operations as one work, which must tell that one of them failed."""
    group._start_coalescing(torch.device("cpu"))
    for count in (3, 4):
        group.allreduce([torch.ones(count)], dist.AllreduceOptions())
    group._end_coalescing(torch.device("cpu")).wait()


# In torch 2 each device may have a backend of its own; no GPU is needed to say so.
dist.init_process_group("cpu:weft,cuda:gloo" if TORCH_2 else "weft")
for part in (reductions, no_single_piece, moving, coalesced_and_split, scattering, messages, sparse, works, repeated, groups,
             failures):
    part()
    print(part.__name__, flush=True)
dist.barrier()
# The program may end with work under way, and with a callback that is still to run.
backend().allreduce([torch.ones(300000)], dist.AllreduceOptions()).get_future().then(lambda f: f.value()[0] / 3)
