#!/usr/bin/env python3
"""torch on Weft beside torch on Gloo: all_reduce by size, the gradient buckets of three models, a step of DDP, and the pattern of
tensor-parallel inference; 2 and 4 ranks on this host, 4 hosts at 1 Gbit/s. Launches are interleaved round by round. Writes
torch.txt and torch.json. `make compare-torch` runs it; ranks and cells are torch_rank.py's."""
import argparse
import json
import os
import random
import subprocess
import sys

import launch
import ratios
import world

HERE = os.path.dirname(os.path.abspath(__file__))
BACKENDS = ["weft", "gloo"]
SIZES = [f"size:{n}" for n in (8, 1024, 8192, 65536, 524288, 4 << 20, 32 << 20)]
PARALLEL = [f"parallel:{n}" for n in (8192, 65536, 524288)]
SMALL_SIZES = [f"size:{n}" for n in (8, 8192, 65536, 1 << 20, 8 << 20)]
# Of each place: ranks, and what is measured.
PLACES = {
    "shm2": (2, SIZES + PARALLEL + ["buckets:resnet50", "buckets:gpt2", "buckets:bert-large", "step:resnet50", "step:gpt2"]),
    "shm4": (4, SIZES + PARALLEL + ["buckets:resnet50", "buckets:gpt2", "step:resnet50"]),
    "hosts4": (4, SMALL_SIZES + ["parallel:65536", "buckets:resnet50", "step:resnet50"]),
}
LIMIT_S = 240


def start(backend, size, place, cases, options):
    # Not a port that outgoing connections are given while torch is being imported.
    common = {"WORLD_SIZE": str(size), "MASTER_ADDR": place.addresses[0] if place.addresses else "127.0.0.1",
              "MASTER_PORT": str(random.randrange(20000, 30000)), "GLOO_SOCKET_IFNAME": place.interface, "WEFT_INTERFACES": place.interface,
              "OMP_NUM_THREADS": "1", "USE_LIBUV": "0", "COMPARE_SECONDS": str(options.seconds),
              "PYTHONPATH": os.path.join(os.path.abspath(options.build), "python")}
    cpus = sorted(os.sched_getaffinity(0))
    bind = (lambda rank: ["taskset", "-c", str(cpus[rank])]) if size <= len(cpus) and not place.addresses else lambda rank: []
    return [subprocess.Popen(place.prefix(rank) + bind(rank) + [options.python, os.path.join(HERE, "torch_rank.py"), backend, *cases],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=launch.die_with_parent,
                             env={**os.environ, **common, "RANK": str(rank)}) for rank in range(size)]


def measure(backend, size, place, cases, options):
    """{cell: us of the slowest rank}"""
    processes = start(backend, size, place, cases, options)
    cells = {}
    try:
        for process in processes:
            said = process.communicate(timeout=LIMIT_S)[0]
            if process.returncode:
                sys.exit(f"{backend}, {size} ranks: {said[-2000:]}")
            for line in said.splitlines():
                if line.startswith("cell "):
                    _, name, us = line.split()
                    cells[name] = max(cells.get(name, 0), float(us))
    finally:
        launch.end(processes)
    return cells


def table(name, times):
    """Lines for people: medians of the rounds, and how many times as long Gloo takes."""
    lines = [f"{name}: us", f"  {'':24}{'Weft':>12}{'Gloo':>12}{'Gloo/Weft':>12}"]
    for cell in times["weft"]:
        weft, gloo = (ratios.median(times[b][cell]) for b in BACKENDS)
        lines.append(f"  {cell:24}{weft:12.1f}{gloo:12.1f}{gloo / weft:12.2f}")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--places", default=",".join(PLACES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1, help="time of each case and launch")
    parser.add_argument("--cases", help="size:65536,buckets:resnet50,...: instead of the usual ones")
    options = parser.parse_args()
    out, results = os.path.join(options.build, "compare"), {}
    os.makedirs(out, exist_ok=True)
    lines = []
    for name in options.places.split(","):
        size, cases = PLACES[name]
        cases = options.cases.split(",") if options.cases else cases
        try:
            place = world.Hosts(list(range(size))) if name.startswith("hosts") else launch.Here()
        except world.Impossible as why:
            lines.append(f"{name}: {why}")
            print(lines[-1], flush=True)
            continue
        try:
            times = {backend: {} for backend in BACKENDS}
            for _ in range(options.rounds):
                for backend in BACKENDS:
                    for cell, us in measure(backend, size, place, cases, options).items():
                        times[backend].setdefault(cell, []).append(us)
        finally:
            place.close()
        results[name] = times
        print("\n".join(table(name, times)), flush=True)
        lines += table(name, times)
    with open(os.path.join(out, "torch.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    with open(os.path.join(out, "torch.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)


main()
