#!/usr/bin/env python3
"""What follows from knowing the hosts, in figures: all_reduce over four hosts (network namespaces) by the schedule that Weft
chooses, beside the link's floor, a flat ring in the worst order of ranks, Open MPI as it comes, and with two interfaces beside
one; with --peers also every other setting of Open MPI, MPICH and Gloo that might be quicker. Needs root, iperf3 and `make
compare-programs`; prints a table. --only takes the rows whose names fit, so that parts of it can be run alone."""
import argparse
import itertools
import os
import re
import sys

import cases
import floors
import launch
import ratios
import world

GIGABIT, QUARTER = "1gbit", "250mbit"
TWO_EACH, TURNS, UNEQUAL = (0, 0, 1, 1, 2, 2, 3, 3), (0, 1, 2, 3, 0, 1, 2, 3), (0, 1, 2, 0, 3, 2, 0, 3)


class Splitting(world.Hosts):
    """Each rank calls its host by a name of its own: then a flat ring goes by rank, and crosses the network at each step."""

    def alone(self, rank):
        return {"WEFT_HOST_ID": f"rank{rank}"}


def split_ranks(commands):
    def changed(variant, case, place, *rest):
        alone = getattr(place, "alone", None)
        return [(command, {**environment, **(alone(environment["RANK"]) if alone else {})})
                for command, environment in commands(variant, case, place, *rest)]
    return changed


class Shape:
    """A placement on interfaces of these rates, and its floor."""

    def __init__(self, text, placement, rates, size, kind=world.Hosts):
        self.text = text
        self.case = cases.Case(text, text, "hosts", len(placement), size, placement)
        self.place = kind(placement, rates)
        hosts = self.place.count
        rate = floors.goodput(self.place.on(0), self.place.on(hosts - 1), self.place.addresses[0], False)
        self.floor_us = 2 * (hosts - 1) / hosts * size / (rate * len(rates)) * 1e6 if rate else None


def measure(shape, variant, options):
    cell = cases.Cell("all_reduce", "f32", options.size)
    outcome = launch.run(variant, shape.case, shape.place, options.programs, [cell], options.ms, limit=options.limit)
    if outcome.wrong:
        sys.exit(f"hosts: {shape.text}: WRONG RESULT: {outcome.wrong}")
    if outcome.problem:
        print(f"note: {shape.text}, {variant.library}: {outcome.problem}", flush=True)
    return next(iter(outcome.times.values()), None)


def rows(size):
    """[(name, shape, variant)]; shapes are made when they are measured, so that one network at a time is there."""
    weft, ring = cases.Variant("weft", "", [], {}), cases.Variant("weft", "", [], {"WEFT_ALGORITHM": "ring"})
    openmpi = cases.variants_of("openmpi", cases.CASES["hosts4x2"], 1)[0]
    return [
        ("Weft", ("4 hosts x 2 ranks", TWO_EACH, (GIGABIT,), size), weft),
        ("Open MPI as it comes", ("4 hosts x 2 ranks", TWO_EACH, (GIGABIT,), size), openmpi),
        ("flat ring, worst order of ranks", ("4 hosts x 2 ranks by turns", TURNS, (GIGABIT,), size, Splitting), ring),
        ("Weft", ("4 hosts x 2 ranks by turns", TURNS, (GIGABIT,), size), weft),
        ("Weft", ("3, 1, 2, 2 ranks, mixed", UNEQUAL, (GIGABIT,), size), weft),
        ("Weft, 250 Mbit/s", ("4 hosts x 2 ranks", TWO_EACH, (QUARTER,), size), weft),
        ("Weft, 2 x 250 Mbit/s", ("4 hosts x 2 ranks", TWO_EACH, (QUARTER, QUARTER), size), weft),
        ("Weft, 250 and 500 Mbit/s", ("4 hosts x 2 ranks", TWO_EACH, (QUARTER, "500mbit"), size), weft),
    ]


def peer_rows(size):
    """As rows(), two ranks on each of four hosts, by each setting of the other libraries that bears on a large all_reduce."""
    shape = ("4 hosts x 2 ranks", TWO_EACH, (GIGABIT,), size)
    net = ["--mca", "btl_tcp_if_include", "eth0"]
    tuned = ("basic_linear", "nonoverlapping", "recursive_doubling", "ring", "segmented_ring", "rabenseifner")
    forced = ["--mca", "coll_tuned_use_dynamic_rules", "1", "--mca", "coll_tuned_allreduce_algorithm"]
    variants = cases.variants_of("openmpi", cases.CASES["hosts4x2"], 1)
    variants += [cases.Variant("openmpi", "tuned " + name, [*net, *forced, str(i + 1)], {}) for i, name in enumerate(tuned)]
    han = [*net, "--mca", "coll_han_priority", "100", "--mca"]
    variants += [cases.Variant("openmpi", "han over " + name, [*han, *more], {})
                 for name, more in (("libnbc", ["coll_han_allreduce_up_module", "0"]),
                                    ("adapt", ["coll_han_allreduce_up_module", "1"]),
                                    ("tuned, simple", ["coll_han_use_simple_allreduce", "1"]),
                                    ("tuned ring, simple", ["coll_han_use_simple_allreduce", "1", *forced, "4"]))]
    tcp = {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": "eth0"}
    variants += [cases.Variant("mpich", "as it comes", [], {}), cases.Variant("mpich", "tcp between hosts", [], tcp)]
    variants += [cases.Variant("mpich", name, [],
                               {**tcp, "MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM": name, "MPIR_CVAR_ENABLE_SMP_ALLREDUCE": smp})
                 for name, smp in (("recursive_doubling", "1"), ("reduce_scatter_allgather", "1"),
                                   ("reduce_scatter_allgather", "0"))]
    variants += cases.variants_of("mpich", cases.CASES["hosts4x2"], 1) + cases.variants_of("gloo", cases.CASES["hosts4x2"], 1)
    return [(f"{cases.LIBRARIES[v.library]}, {v.name}", shape, v) for v in variants]


def floor_of(shape, rates):
    """The goodput was measured on the first interface: others are counted by their rate."""
    if shape.floor_us is None:
        return None
    parts = [float(rate[:-4]) * (1000 if rate.endswith("gbit") else 1) for rate in rates]
    return shape.floor_us * len(parts) * parts[0] / sum(parts)


def measure_row(name, shape, rates, variant, options):
    times = [measure(shape, variant, options) for _ in range(options.rounds)]
    times = [us / 1000 for us in times if us]
    floor = floor_of(shape, rates)
    if times:
        middle = ratios.median(times)
        print(f"{shape.text:<28} {name:<40} {middle:8.1f} ({min(times):.1f}-{max(times):.1f})"
              + (f"  floor {floor / 1000:.1f}, reached {floor / 10 / middle:.1f}%" if floor else ""), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", default="build/compare")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ms", type=float, default=2000, help="per launch")
    parser.add_argument("--size", default="16M", type=cases.parse_size)
    parser.add_argument("--peers", action="store_true", help="every setting of the other libraries")
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose names it fits")
    parser.add_argument("--limit", type=float, default=90, help="seconds for one launch")
    options = parser.parse_args()
    options.programs = os.path.abspath(options.programs)
    launch.commands = split_ranks(launch.commands)
    print(f"all_reduce of {cases.show_size(options.size)} f32, ms (floor: 2(h-1)/h x size over the goodput of iperf3)",
          flush=True)
    chosen = [row for row in rows(options.size) + (peer_rows(options.size) if options.peers else [])
              if re.search(options.only, row[0])]
    for made, group in itertools.groupby(chosen, key=lambda row: row[1]):
        try:
            shape = Shape(*made)
        except world.Impossible as reason:
            sys.exit(f"hosts: {reason}")
        try:
            for name, _, variant in group:
                if os.path.exists(os.path.join(options.programs, "compare-" + variant.library)):
                    measure_row(name, shape, made[2], variant, options)
                else:
                    print(f"note: compare-{variant.library} is not built", flush=True)
        finally:
            shape.place.close()


if __name__ == "__main__":
    main()
