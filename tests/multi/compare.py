#!/usr/bin/env python3
# The comparison with other libraries (perf/compare) in small: its statistics, its picture, and one round of two sizes with Weft
# and the peers that are built. How fast anything is, is not looked at.
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

sys.dont_write_bytecode = True
sys.path.insert(0, "perf/compare")
import cases  # noqa: E402
import extras  # noqa: E402
import floors  # noqa: E402
import plot  # noqa: E402
import ratios  # noqa: E402
import report  # noqa: E402

PROGRAMS = os.path.join(os.environ.get("BUILD", "build"), "compare")
problems = []


def check(condition, text):
    if not condition:
        problems.append(text)
        print(text, flush=True)


def statistics():
    check(ratios.median([3, 1, 2]) == 2 and ratios.median([4, 1, 2, 3]) == 2.5, "median")
    # Two ranks, three batches: the slower of each is 5, 4, 6.
    check(ratios.slowest_rank([[5, 1, 2], [3, 4, 6]]) == 5, "slowest rank of each batch")
    for count, left_out in ((1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (20, 5)):
        check(ratios.rank_of_interval(count) == left_out, f"interval of {count}: leaves out {ratios.rank_of_interval(count)}")
    check(ratios.interval([5, 1, 4, 2, 3]) == (3, 1, 5), "interval of five")
    check(ratios.ratio([1, None, 2], [2, 9, 8]) == (3, 2, 4), "rounds that one lacks do not count")
    check(ratios.ratio([None], [1.0]) is None, "no round that both have")
    check(abs(ratios.geometric_mean([2, 8]) - 4) < 1e-12, "geometric mean")
    check(ratios.behind((0.9, 0.85, 0.94)) and not ratios.behind((0.9, 0.85, 0.96)), "behind")
    # The true median lies inside at least as often as is said.
    generator = random.Random(7)
    outside = 0
    for _ in range(4000):
        _, low, high = ratios.interval([generator.lognormvariate(0, 1) for _ in range(9)])
        outside += not low <= 1 <= high
    check(outside < 0.05 * 4000, f"the interval misses the median {outside} times in 4000")


def example_rows():
    case = cases.CASES["shm2"]
    cells = cases.cells_of(case, ["all_reduce", "barrier"], ["f32"])
    times = {"weft": {c: [1.0 + c.bytes, 1.1 + c.bytes] for c in cells},
             "openmpi": {c: [2.0 + c.bytes, 0.5 + c.bytes] for c in cells},
             "gloo": {c: [None, 500.0 + c.bytes] for c in cells[:3]}}
    standins = {"rows": [{"case": "shm2", "collective": "all_reduce", "type": "f32", "best_us": {"8": 3},
                          "openmpi_us": {"8": 6}}]}
    measured = {key: {"8": 5.0, "4096": 3000.0, "268435456": 2e8} for key in ("flat_us", "staged_us", "copy_us")}
    return report.rows_of(times, case, cells, ["openmpi", "gloo"], {"exchange_us": 0.1, **measured}, 2, standins)


def table_and_picture():
    rows = example_rows()
    first = rows[0]
    check(first["bytes"] == 8 and first["best"] == "openmpi" and first["standin_us"] == first["us"]["openmpi"] / 2,
          f"first row: {first}")
    check(all(row["floor_us"] > 0 for row in rows), f"floors: {rows}")
    text = "\n".join(report.table(rows, ["openmpi", "gloo"]) + report.summary(rows, {"shm2": {"weft": (1024, 2048)}}))
    check("16 MB" in text and "Open MPI" in text and "1.0 / 2.0" in text, text)
    picture = xml.etree.ElementTree.fromstring(plot.draw(rows, "a <heading> & more"))
    lines = picture.findall("{http://www.w3.org/2000/svg}polyline")
    check(len(lines) == 3, f"two peers and the floor: {len(lines)} curves")
    width, height = float(picture.get("width")), float(picture.get("height"))
    for line in lines:
        for point in line.get("points").split():
            x, y = map(float, point.split(","))
            check(0 <= x <= width and 0 <= y <= height, f"outside the picture: {point}")
    check(plot.draw([], "nothing") == "", "a picture of nothing")


def floors_between():
    check(floors.inside({"10": 1.0, "20": 3.0}, 15) == 2.0, "between two sizes")
    check(floors.inside({"10": 1.0, "20": 3.0}, 5) == 1.0 and floors.inside({"10": 1.0, "20": 3.0}, 40) == 6.0,
          "beyond the sizes")
    check(floors.sent_bytes("all_reduce", 100, 4) == 150 and floors.sent_bytes("broadcast", 100, 4) == 100, "bytes sent")


def overlap_and_startup():
    # Of 100 us all but 20 hide behind a computation that then takes a tenth longer; looked at, all hides and nothing slows.
    numbers = extras.overlap_numbers([100e3, 100e3, 120e3, 110e3, 100e3, 100e3])
    wanted = {"alone_us": 100, "hidden": 0.8, "slowed": 0.1, "hidden_polled": 1, "slowed_polled": 0}
    check(all(abs(numbers[key] - value) < 1e-9 for key, value in wanted.items()), f"overlap: {numbers}")
    text = "\n".join(extras.overlap_table([{"case": "shm2", "library": "weft", "bytes": 1 << 20, **numbers}]))
    check("80%" in text and "1 MB" in text, text)
    rows = [{"library": name, "ranks": ranks, "whole_s": 0.5, "init_s": 0.25}
            for name, ranks in (("weft", 2), ("weft", 512), ("mpich", 2))]
    lines = extras.startup_table(rows, ["MPICH: 512 ranks: not today"])
    check(lines[-2].split() == ["512", "500", "/", "250", "-"] and "not today" in lines[-1], f"start-up: {lines}")


def smallest_run():
    """Every collective and type, two sizes, one round."""
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run([sys.executable, "-B", "perf/compare/compare.py", "--programs", PROGRAMS, "--out", place, "--cases",
                               "shm2,tcp2", "--sizes", "8,20000", "--rounds", "1", "--ms", "1", "--libraries", "openmpi"],
                              capture_output=True, text=True, timeout=110, check=False)
        check(done.returncode == 0, f"exit code {done.returncode}: {done.stdout[-1500:]} {done.stderr[-1500:]}")
        if done.returncode != 0:
            return
        with open(os.path.join(place, "results.json"), encoding="utf-8") as file:
            document = json.load(file)
        cells = {(row["case"], row["collective"], row["type"], row["bytes"]) for row in document["rows"]}
        check(len(cells) == len(document["rows"]) == 2 * (2 * 5 * 2 + 1), f"cells: {sorted(cells)}")
        check(all(row["us"]["weft"] > 0 for row in document["rows"]), "every cell has a time of Weft")
        check(not any("WRONG" in note or "Weft" in note for note in document["notes"]), f"notes: {document['notes']}")
        check(document["floors"]["cpus"] < 2 or document["floors"]["exchange_us"] > 0, f"floors: {document['floors']}")
        with open(os.path.join(place, "table.txt"), encoding="utf-8") as file:
            check("geometric mean" in file.read(), "the table's summary")
    done = subprocess.run([sys.executable, "-B", "perf/compare/compare.py", "--cases", "moon"], capture_output=True, text=True,
                          check=False)
    check(done.returncode != 0 and "moon" in done.stderr, f"a case that there is not: {done}")


def broken_off():
    """By Ctrl-C: what is there by then is written, and the exit code says that it is not all."""
    with tempfile.TemporaryDirectory() as place:
        run = subprocess.Popen([sys.executable, "-u", "-B", "perf/compare/compare.py", "--programs", PROGRAMS, "--out", place,
                                "--cases", "shm2", "--rounds", "1000", "--libraries", "openmpi"],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        said = run.stdout.readline()
        while run.poll() is None and "s]" not in said:  # its stamp: it measures
            said = run.stdout.readline()
        os.killpg(run.pid, signal.SIGINT)
        said = run.communicate(timeout=60)[0]
        check(run.returncode == 130 and "ended early" in said, f"broken off: {run.returncode}: {said[-500:]}")


for test in (statistics, table_and_picture, floors_between, overlap_and_startup, smallest_run, broken_off):
    test()
sys.exit(1 if problems else 0)
