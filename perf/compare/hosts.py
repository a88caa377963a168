#!/usr/bin/env python3
"""What follows from knowing the hosts, in figures: all_reduce over four hosts (network namespaces) by the schedule that Weft chooses,
beside the link's floor, a flat ring in the worst order of ranks, Open MPI as it comes, and with two interfaces beside one. Needs
root, iperf3 and `make compare-programs`; prints a table."""
import argparse
import os
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


def measure(shape, variant, programs, cell, options):
    outcome = launch.run(variant, shape.case, shape.place, programs, [cell], options.ms, limit=90)
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


def floor_of(shape, rates):
    """The goodput was measured on the first interface: others are counted by their rate."""
    if shape.floor_us is None:
        return None
    parts = [float(rate[:-4]) * (1000 if rate.endswith("gbit") else 1) for rate in rates]
    return shape.floor_us * len(parts) * parts[0] / sum(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", default="build/compare")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ms", type=float, default=2000, help="per launch")
    parser.add_argument("--size", default="16M")
    options = parser.parse_args()
    programs = os.path.abspath(options.programs)
    size = cases.parse_size(options.size)
    cell = cases.Cell("all_reduce", "f32", size)
    launch.commands = split_ranks(launch.commands)
    print(f"all_reduce of {cases.show_size(size)} f32, ms (floor: 2(h-1)/h x size over the goodput of iperf3)", flush=True)
    for name, (text, placement, rates, *rest), variant in rows(size):
        if not os.path.exists(os.path.join(programs, "compare-" + variant.library)):
            print(f"note: compare-{variant.library} is not built", flush=True)
            continue
        try:
            shape = Shape(text, placement, rates, *rest)
        except world.Impossible as reason:
            sys.exit(f"hosts: {reason}")
        try:
            times = [measure(shape, variant, programs, cell, options) for _ in range(options.rounds)]
        finally:
            shape.place.close()
        times = [us / 1000 for us in times if us]
        floor = floor_of(shape, rates)
        if times:
            middle = ratios.median(times)
            print(f"{text:<28} {name:<32} {middle:8.1f} ({min(times):.1f}-{max(times):.1f})"
                  + (f"  floor {floor / 1000:.1f}, reached {floor / 10 / middle:.1f}%" if floor else ""), flush=True)


if __name__ == "__main__":
    main()
