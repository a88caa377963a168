#!/usr/bin/env python3
"""Measures Weft beside other libraries: the same loop (measure.c) on each, launches interleaved round by round, floors from the
same run. Writes a table, JSON and an SVG plot. `make compare` runs it; --help names what can be chosen."""
import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time

import cases
import extras
import floors
import launch
import plot
import ratios
import report
import world

HERE = os.path.dirname(os.path.abspath(__file__))
# For one launch, in seconds.
LIMIT_S = 90
EVERYTHING = [*cases.CASES, "startup", "overlap"]


def parse_arguments():
    parser = argparse.ArgumentParser(description="Weft beside other libraries, measured.")
    parser.add_argument("--programs", default="build/compare",
                        help="folder of compare-weft, compare-openmpi, ... (default: %(default)s)")
    parser.add_argument("--out", help="folder for table.txt, results.json and plot.svg (default: that of the programs)")
    parser.add_argument("--cases", help="of " + ",".join(EVERYTHING) + " (default: all)")
    parser.add_argument("--collectives", help="of " + ",".join(cases.COLLECTIVES))
    parser.add_argument("--types", help="f32,bf16")
    parser.add_argument("--sizes", help="8,4K,2M: instead of the usual ones")
    parser.add_argument("--libraries", help="peers, of " + ",".join(cases.PEERS) + " (default: those there are)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ms", type=float, default=20,
                        help="time per cell and launch, between hosts five times as long (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 ranks on shared memory, fewer sizes: about three minutes")
    parser.add_argument("--docs", action="store_true",
                        help="also write docs/compare.svg and docs/compare.json (on a quiet machine)")
    return parser.parse_args()


def choose(text, all_of, what):
    if text is None:
        return list(all_of)
    chosen = text.split(",")
    for name in chosen:
        if name not in all_of:
            sys.exit(f"compare: no such {what}: {name}; there are {', '.join(all_of)}")
    return chosen


def say(text):
    print(text, flush=True)


def machine():
    model = "?"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"cpu": model, "cpus": len(os.sched_getaffinity(0)), "kernel": platform.release(),
            "system": next((line.split("=", 1)[1].strip().strip('"') for line in open("/etc/os-release", encoding="utf-8")
                            if line.startswith("PRETTY_NAME")), "?"), "date": datetime.date.today().isoformat()}


def versions():
    """As the package system names them; {} where there is none."""
    packages = {"openmpi": "libopenmpi3", "mpich": "libmpich12", "gloo": "libgloo0", "iperf3": "iperf3"}
    found = {}
    for name, package in packages.items():
        done = subprocess.run(["dpkg-query", "-W", "-f=${Version}", package], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found[name] = done.stdout
    return found


class Run:
    """One comparison: times[case][library][cell] = [us or None per round]."""

    def __init__(self, options):
        self.options = options
        self.cpus = len(os.sched_getaffinity(0))
        self.programs = os.path.abspath(options.programs)
        self.times, self.memory, self.chosen, self.notes, self.places = {}, {}, {}, [], {}
        self.begun = time.monotonic()
        self.pick()

    def pick(self):
        o = self.options
        self.kinds = ["shm2"] if o.quick and o.cases is None else choose(o.cases, EVERYTHING, "case")
        self.cases = [cases.CASES[name] for name in self.kinds if name in cases.CASES]
        self.startup, self.overlap, self.floors, self.loops = ([], []), [], {}, []
        self.collectives = choose(o.collectives, cases.COLLECTIVES, "collective")
        self.types = choose(o.types, cases.TYPES, "type")
        self.sizes = [cases.parse_size(s) for s in o.sizes.split(",")] if o.sizes else cases.SIZES if o.quick else None
        wanted = choose(o.libraries, cases.PEERS, "library")
        self.peers = [name for name in wanted if self.there(name)]
        for name in wanted:
            if name not in self.peers:
                why = f"{self.programs}/compare-{name} is not built"
                if name == "openmpi5":
                    why = "COMPARE_DEBIAN13=1 was not asked for"
                self.note(f"{cases.LIBRARIES[name]} is not compared: {why}")

    def there(self, peer):
        folder = os.environ.get("COMPARE_DEBIAN13_FOLDER", "") if peer == "openmpi5" else "/"
        return os.path.isdir(folder) and os.path.exists(os.path.join(self.programs, "compare-" + peer))

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)
            say("note: " + text)

    def stamp(self):
        return f"[{time.monotonic() - self.begun:4.0f} s]"

    def launch(self, variant, case, cells, ms):
        outcome = launch.run(variant, case, self.places[case.name], self.programs, cells, ms, limit=LIMIT_S)
        name = f"{cases.LIBRARIES[variant.library]} {variant.name}".strip()
        if outcome.problem:
            self.note(f"{case.name}: {name}: {outcome.problem}")
        for rank, wrong in outcome.wrong:
            self.note(f"{case.name}: {name}: WRONG RESULT on rank {rank}: {wrong}")
        return outcome

    def ms(self, case):
        """Of a cell in one launch. Hosts share the cores here: it takes a while until the kernel has settled who runs where."""
        return self.options.ms * (5 if case.kind == "hosts" else 1)

    def choose_variants(self, case, library, cells):
        """The best setting of a peer for each cell, by one launch of each: {variant: [cells]}."""
        variants = cases.variants_of(library, case, self.cpus)
        if len(variants) == 1:
            return {variants[0].name: (variants[0], cells)}
        best = {}
        for variant in variants:
            mine = [cell for cell in cells if not variant.largest or cell.bytes <= variant.largest]
            for key, us in self.launch(variant, case, mine, self.ms(case) / 2).times.items():
                if key not in best or us < best[key][0]:
                    best[key] = (us, variant)
        chosen = {}
        for cell in cells:
            if key_of(cell) in best:
                variant = best[key_of(cell)][1]
                chosen.setdefault(variant.name, (variant, []))[1].append(cell)
        return chosen

    def run_case(self, case):
        cells = cases.cells_of(case, self.collectives, self.types, self.sizes)
        self.times[case.name] = {}
        plan = {"weft": self.choose_variants(case, "weft", cells)}
        registered = [c for c in cells if c.collective == "all_reduce"]
        if case.kind == "shm" and registered:
            plan["registered"] = self.choose_variants(case, "registered", registered)
        for peer in self.peers:
            if case.kind == "mpi" and peer != "openmpi":
                continue
            if peer == "openmpi5" and case.kind == "hosts":
                self.note(f"{case.text}: without Open MPI 5, which is there in a folder of one host only")
                continue
            say(f"{self.stamp()} {case.name}: best settings of {cases.LIBRARIES[peer]}")
            plan[peer] = self.choose_variants(case, peer, cells)
        self.chosen[case.name] = {name: {variant: [key_of(c) for c in mine] for variant, (_, mine) in plan[name].items()}
                                  for name in self.peers if name in plan}
        names = list(plan)
        for number in range(self.options.rounds):
            turn = number % len(names)
            say(f"{self.stamp()} {case.name}: round {number + 1} of {self.options.rounds}")
            if case.kind == "shm" and case.ranks == 2:
                self.measure_loops()
            for name in names[turn:] + names[:turn]:
                self.run_round(case, name, plan[name], cells)

    def run_round(self, case, name, variants, cells):
        got = {}
        for variant, mine in variants.values():
            outcome = self.launch(variant, case, mine, self.ms(case))
            got.update(outcome.times)
            self.add_memory(case, name, outcome)
        table = self.times[case.name].setdefault(name, {})
        for cell in cells:
            table.setdefault(cell, []).append(got.get(key_of(cell)))

    def add_memory(self, case, name, outcome):
        pairs = [[float(word) for word in words] for _, words in outcome.lines.get("memory", [])]
        # Registered buffers of the other ranks are mapped here and would be counted again.
        if pairs and name != "registered":
            by_library = self.memory.setdefault(case.name, {})
            before = by_library.get(name, (0, 0))
            by_library[name] = tuple(max(before[i], *[pair[i] for pair in pairs]) for i in range(2))

    def open_places(self):
        kept = []
        for case in self.cases:
            try:
                self.places[case.name] = world.Hosts(case.hosts) if case.kind == "hosts" else launch.Here()
                if case.kind == "mpi" and not ("openmpi" in self.peers and os.path.exists(cases.MPI_PRELOAD)):
                    raise world.Impossible(f"needs Open MPI and {cases.MPI_PRELOAD}; make mpi")
                kept.append(case)
            except world.Impossible as reason:
                self.note(f"{case.text}: left out: {reason}")
        self.cases = kept

    def close(self):
        for place in self.places.values():
            place.close()

    def rows(self):
        with open(os.path.join(HERE, "standins.json"), encoding="utf-8") as file:
            standins = json.load(file)
        rows = []
        for case in self.cases:
            cells = cases.cells_of(case, self.collectives, self.types, self.sizes)
            rows += report.rows_of(self.times.get(case.name, {}), case, cells, ["registered", *self.peers], self.floors,
                                   self.cpus, standins)
        return rows

    def all(self):
        self.open_places()
        if self.cases:
            self.measure_floors()
        for case in self.cases:
            self.run_case(case)
        if "overlap" in self.kinds:
            say(f"{self.stamp()} overlap")
            self.overlap = extras.overlap(self.programs, ["weft", *self.peers], self.cpus, 3, self.note)
        if "startup" in self.kinds:
            say(f"{self.stamp()} start-up")
            self.startup = extras.startup(self.programs, ["weft", *self.peers], self.cpus, 3, say)

    def measure_floors(self):
        say(f"{self.stamp()} floors")
        self.floors = floors.measure_sockets(os.path.join(self.programs, "compare-floors"), self.cases, self.places)
        self.measure_loops()

    def measure_loops(self):
        """Once for all, and in each round of the case whose rows go by them."""
        sizes = sorted({c.bytes for case in self.cases if case.kind in cases.IN_MEMORY
                        for c in cases.cells_of(case, self.collectives, self.types, self.sizes) if c.bytes} | {8, 4096, cases.MB})
        self.loops.append(floors.measure_loops(os.path.join(self.programs, "compare-floors"), sizes))
        self.floors.update(floors.medians([loops for loops in self.loops if loops] or [{}]))


def key_of(cell):
    return f"{cell.collective} {cell.type} {cell.bytes}"


def write(run, folder, name_of):
    rows = run.rows()
    text = report.table(rows, ["registered", *run.peers]) + (report.summary(rows, run.memory) if rows else [])
    text += extras.overlap_table(run.overlap) + extras.startup_table(*run.startup)
    text += ["", *["note: " + note for note in run.notes]]
    here = machine()
    document = {"machine": here, "versions": versions(), "rounds": run.options.rounds, "floors": run.floors, "rows": rows,
                "memory_kb": run.memory, "startup": run.startup[0], "overlap": run.overlap, "settings": run.chosen,
                "notes": run.notes}
    heading = f"all_reduce f32: time of each peer over Weft's ({here['cpus']} x {here['cpu']})"
    for key, content in (("table", "\n".join(text) + "\n"), ("json", json.dumps(document, indent=1) + "\n"),
                         ("svg", plot.draw(rows, heading))):
        if key in name_of and content:
            with open(os.path.join(folder, name_of[key]), "w", encoding="utf-8") as file:
                file.write(content)
    return text


def main():
    options = parse_arguments()
    run = Run(options)
    folder = options.out or run.programs
    os.makedirs(folder, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    early = False
    try:
        run.all()
    except KeyboardInterrupt:
        early = True
        run.note("ended early: what follows is what was there by then")
    finally:
        run.close()
    text = write(run, folder, {"table": "table.txt", "json": "results.json", "svg": "plot.svg"})
    print("\n".join(text))
    say(f"\n{run.stamp()} table.txt, results.json and plot.svg are in {os.path.relpath(folder)}")
    if options.docs and not early:
        write(run, os.path.join(HERE, "..", "..", "docs"), {"json": "compare.json", "svg": "compare.svg"})
    if early:
        return 128 + signal.SIGINT
    return 1 if any("WRONG" in note for note in run.notes) else 0


if __name__ == "__main__":
    sys.exit(main())
