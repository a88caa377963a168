#!/usr/bin/env python3
"""torch on Weft beside torch on Gloo, and on MPI where torch was built with it: all_reduce by size, the gradient buckets of three
models, a step of DDP, and the pattern of tensor-parallel inference; 2 and 4 ranks on this host, 4 hosts at 1 Gbit/s. Launches are
interleaved round by round. Writes torch.txt and torch.json. `make compare-torch` runs it; ranks and cells are torch_rank.py's.
--places, --cases and --backends make slices of it: they add to what is in torch.json."""
import argparse
import json
import os
import subprocess
import sys

import launch
import ports
import ratios
import world

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = [f"size:{n}" for n in (8, 1024, 8192, 65536, 524288, 4 << 20, 32 << 20)]
PARALLEL = [f"parallel:{n}" for n in (8192, 65536, 524288)]
SMALL_SIZES = [f"size:{n}" for n in (8, 8192, 65536, 1 << 20, 8 << 20)]
# Of each place: ranks, and what is measured.
PLACES = {
    "shm2": (2, SIZES + PARALLEL + ["buckets:resnet50", "buckets:gpt2", "buckets:bert-large", "step:resnet50", "step:gpt2"]),
    "shm4": (4, SIZES + PARALLEL + ["buckets:resnet50", "buckets:gpt2", "buckets:bert-large", "step:resnet50"]),
    "hosts2": (2, SMALL_SIZES + ["parallel:65536", "buckets:resnet50"]),
    "hosts4": (4, SMALL_SIZES + ["parallel:8192", "parallel:65536", "buckets:resnet50", "buckets:gpt2", "buckets:bert-large",
                                 "step:resnet50"]),
}
LIMIT_S = 240
QUIET_MPI = {"OMPI_MCA_btl_base_warn_component_unused": "0", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def start(backend, size, place, cases, options):
    common = {"WORLD_SIZE": str(size), "MASTER_ADDR": place.addresses[0] if place.addresses else "127.0.0.1",
              "MASTER_PORT": str(ports.free_port()), "GLOO_SOCKET_IFNAME": place.interface, "WEFT_INTERFACES": place.interface,
              "OMP_NUM_THREADS": "1", "USE_LIBUV": "0", "COMPARE_SECONDS": str(options.seconds),
              "PYTHONPATH": os.path.join(os.path.abspath(options.build), "python")}
    cpus = sorted(os.sched_getaffinity(0))
    rank_command = [options.python, os.path.join(HERE, "torch_rank.py"), backend, *cases]
    if backend == "mpi":
        bind = ["--bind-to", "core"] if size <= len(cpus) else ["--oversubscribe", "--bind-to", "none"]
        return [subprocess.Popen(["mpirun.openmpi", *bind, "-n", str(size), *rank_command], stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT,
                                 text=True, preexec_fn=launch.die_with_parent, env={**os.environ, **common, **QUIET_MPI})]
    bind = (lambda rank: ["taskset", "-c", str(cpus[rank])]) if size <= len(cpus) and not place.addresses else lambda rank: []
    return [subprocess.Popen(place.prefix(rank) + bind(rank) + rank_command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, preexec_fn=launch.die_with_parent, env={**os.environ, **common, "RANK": str(rank)})
            for rank in range(size)]


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


def has_mpi(python):
    script = "import torch.distributed as d; print(d.is_mpi_available())"
    return subprocess.run([python, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=True).stdout.strip() == "True"


def table(name, times):
    """Lines for people: medians of the rounds, and how many times as long the others take."""
    others = [backend for backend in times if backend != "weft"]
    lines = [f"{name}: us", f"  {'':24}" + "".join(f"{b.capitalize():>12}" for b in ["weft"] + others) +
             "".join(f"{b.capitalize() + '/Weft':>12}" for b in others)]
    for cell, rounds in times["weft"].items():
        weft = ratios.median(rounds)
        medians = [ratios.median(times[b][cell]) if cell in times[b] else None for b in others]
        lines.append(f"  {cell:24}{weft:12.1f}" + "".join(f"{m:12.1f}" if m else f"{'-':>12}" for m in medians) +
                     "".join(f"{m / weft:12.2f}" if m else f"{'-':>12}" for m in medians))
    return lines


def known(path):
    """What earlier slices have measured: {place: {backend: {cell: [us]}}}"""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def slice_of(name, options, backends):
    """{backend: {cell: [us of each round]}} of a place, or why it cannot be had."""
    size, cases = PLACES[name]
    cases = options.cases.split(",") if options.cases else cases
    place = world.Hosts(list(range(size))) if name.startswith("hosts") else launch.Here()
    # mpirun starts ranks on this host only.
    times = {backend: {} for backend in backends if backend != "mpi" or not place.addresses}
    try:
        for _ in range(options.rounds):
            for backend, found in times.items():
                for cell, us in measure(backend, size, place, cases, options).items():
                    found.setdefault(cell, []).append(us)
    finally:
        place.close()
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--places", default="shm2,shm4,hosts4", help="of " + ", ".join(PLACES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1, help="time of each case and launch")
    parser.add_argument("--cases", help="size:65536,buckets:resnet50,...: instead of the usual ones")
    parser.add_argument("--backends", default="weft,gloo,mpi")
    options = parser.parse_args()
    backends = options.backends.split(",")
    if "mpi" in backends and not has_mpi(options.python):
        backends.remove("mpi")
        print("mpi: this torch was built without it", flush=True)
    out = os.path.join(options.build, "compare")
    os.makedirs(out, exist_ok=True)
    results = known(os.path.join(out, "torch.json"))
    for name in options.places.split(","):
        try:
            times = slice_of(name, options, backends)
        except world.Impossible as why:
            print(f"{name}: {why}", flush=True)
            continue
        print("\n".join(table(name, times)), flush=True)
        for backend, cells in times.items():
            results.setdefault(name, {}).setdefault(backend, {}).update(cells)
    with open(os.path.join(out, "torch.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(line for name, times in results.items() for line in table(name, times)) + "\n")
    with open(os.path.join(out, "torch.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)


main()
