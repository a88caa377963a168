#!/usr/bin/env python3
"""One rank of the comparison of torch's backends: `torch_rank.py BACKEND CASE...`; writes lines `cell NAME VALUE` in us to
stdout.
Cases: size:BYTES (blocking all_reduces: p50), parallel:BYTES (many, as tensor-parallel inference makes them: p50 and p99),
buckets:MODEL (the buckets of a step, begun one after the other and waited for as DDP does), step:MODEL (a step of DDP)."""
import os
import sys
import time

import torch
import torch.distributed as dist

import torch_models

# For one case.
SECONDS = float(os.environ.get("COMPARE_SECONDS", "1"))


def percentile(times, part):
    return sorted(times)[min(len(times) - 1, int(len(times) * part))] * 1e6


def say(name, us):
    print(f"cell {name} {us:.2f}", flush=True)


def timed(function):
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def measure(function, most, warm=5):
    """Times of calls: as many as fit in the time, the same number on all ranks; slow ones at least twice."""
    function()
    dist.barrier()
    took = torch.tensor([timed(function)])
    dist.all_reduce(took, op=dist.ReduceOp.MAX)
    slow = took.item() > 2
    for _ in range(0 if slow else warm):
        function()
    return [timed(function) for _ in range(max(2 if slow else 3, min(most, int(SECONDS / took.item()))))]


def size(what):
    x = torch.ones(int(what) // 4)
    say(f"size:{what}", percentile(measure(lambda: dist.all_reduce(x), 2000), 0.5))


def parallel(what):
    x = torch.ones(int(what) // 4)
    times = measure(lambda: dist.all_reduce(x), 5000)
    say(f"parallel-p50:{what}", percentile(times, 0.5))
    say(f"parallel-p99:{what}", percentile(times, 0.99))


def buckets(what):
    tensors = [torch.zeros(n) for n in torch_models.buckets(torch_models.MODELS[what]())]
    options = dist.AllreduceOptions()
    group = dist.group.WORLD

    def step():
        for future in [group.allreduce([t], options).get_future() for t in tensors]:
            future.wait()
    say(f"buckets:{what}", percentile(measure(step, 50, 2), 0.5))


class Weights(torch.nn.Module):
    """A model's parameters, with next to nothing to compute."""

    def __init__(self, sizes):
        super().__init__()
        self.weights = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(n)) for n in sizes)

    def forward(self, x):
        return sum(w.sum() for w in self.weights) * x


def step(what):
    model = torch.nn.parallel.DistributedDataParallel(Weights(torch_models.MODELS[what]()))
    one = torch.ones(())

    def train():
        model.zero_grad(set_to_none=False)
        model(one).backward()
    say(f"step:{what}", percentile(measure(train, 50, 3), 0.5))


def main():
    backend, cases = sys.argv[1], sys.argv[2:]
    if backend == "weft":
        import weft_torch  # noqa: F401
    torch.set_num_threads(1)
    dist.init_process_group(backend)
    for case in cases:
        kind, what = case.split(":")
        {"size": size, "parallel": parallel, "buckets": buckets, "step": step}[kind](what)
    dist.barrier()
    if backend == "gloo":
        os._exit(0)  # torch 2.6's does not return from destroy_process_group after futures
    dist.destroy_process_group()


main()
