"""What is compared besides the time of a collective: start-up (from before the launcher to the end of the first barrier, for more
and more ranks) and overlap (how much of a non-blocking all_reduce hides behind computation)."""
import time

import cases
import launch
import ratios
import world

STARTUP_RANKS = [2, 8, 32, 128, 512]
STARTUP_LIMIT_S = 30
# From here on one launch has to do: it takes seconds.
STARTUP_MANY = 128
OVERLAP_SIZES = [64 * cases.KB, cases.MB, 16 * cases.MB]
OVERLAP_SIZES_HOSTS = [64 * cases.KB, cases.MB, 4 * cases.MB]
# Gloo has neither a launcher nor a non-blocking all_reduce.
STARTUP_LIBRARIES = ["weft", "openmpi", "mpich"]


def plain_variant(library, case, cpus):
    return cases.variants_of(library, case, cpus)[0]


def startup_of(variant, case, place, programs):
    """(whole s, from main() to the end of the barrier s) or None with the reason."""
    begun = time.monotonic_ns()
    outcome = launch.run(variant, case, place, programs, [], 1, mode="startup", limit=STARTUP_LIMIT_S)
    entered = [float(words[0]) for _, words in outcome.lines.get("entered", [])]
    started = [float(words[0]) for _, words in outcome.lines.get("started", [])]
    if outcome.problem or len(started) < case.ranks:
        return None, outcome.problem or "not all ranks got through the barrier"
    return ((max(started) - begun) / 1e9, (max(started) - min(entered)) / 1e9), ""


def startup(programs, libraries, cpus, rounds, say):
    """[{library, ranks, whole_s, init_s}]; a library that fails at some number of ranks is not asked for more."""
    rows, given_up = [], {}
    for ranks in STARTUP_RANKS:
        case = cases.Case("startup", f"{ranks} ranks", "shm", ranks, 0)
        times = {name: [] for name in libraries if name in STARTUP_LIBRARIES}
        for _ in range(rounds if ranks < STARTUP_MANY else 1):
            for name, mine in times.items():
                if name in given_up:
                    continue
                pair, reason = startup_of(plain_variant(name, case, cpus), case, launch.Here(), programs)
                if pair is None:
                    given_up[name] = f"{cases.LIBRARIES[name]}: {ranks} ranks: {reason}"
                    say("start-up: " + given_up[name])
                else:
                    mine.append(pair)
        for name, mine in times.items():
            if mine:
                rows.append({"library": name, "ranks": ranks, "whole_s": round(ratios.median([m[0] for m in mine]), 5),
                             "init_s": round(ratios.median([m[1] for m in mine]), 5)})
    return rows, list(given_up.values())


def overlap_numbers(words):
    """Of the times that compare_overlap wrote: shares of the all_reduce hidden, and how much longer the computation took."""
    alone, compute, left, left_compute, looked, looked_compute = words
    least = min(alone, compute)
    return {"alone_us": alone / 1000, "hidden": (alone + compute - left) / least, "slowed": left_compute / compute - 1,
            "hidden_polled": (alone + compute - looked) / least, "slowed_polled": looked_compute / compute - 1}


def overlap_places(note):
    """[(case, place)]: what shares its processors with the computation, and a wire that does not."""
    found = [(cases.CASES["shm2"], launch.Here()), (cases.CASES["tcp2"], launch.Here())]
    try:
        found.append((cases.Case("hosts2", "2 hosts at 1 Gbit/s", "hosts", 2, 0, (0, 1)), world.Hosts((0, 1))))
    except world.Impossible as reason:
        note(f"overlap between hosts: left out: {reason}")
    return found


def overlap(programs, libraries, cpus, rounds, note):
    """[{case, library, bytes, ...}]: medians over rounds of the slowest rank's times."""
    places = overlap_places(note)
    try:
        return [row for case, place in places for row in overlap_of(programs, libraries, cpus, rounds, case, place)]
    finally:
        for _, place in places:
            place.close()


def overlap_of(programs, libraries, cpus, rounds, case, place):
    rows = []
    cells = [cases.Cell("all_reduce", "f32", size) for size in (OVERLAP_SIZES_HOSTS if place.addresses else OVERLAP_SIZES)]
    found = {}
    for _ in range(rounds):
        for name in libraries:
            if name == "gloo" or (name == "openmpi5" and place.addresses):
                continue
            outcome = launch.run(plain_variant(name, case, cpus), case, place, programs, cells, 80, mode="overlap")
            by_size = {}
            for _, words in outcome.lines.get("overlap", []):
                by_size.setdefault(int(words[0]), []).append([float(word) for word in words[1:]])
            for size, ranks in by_size.items():
                if len(ranks) == case.ranks:
                    found.setdefault((name, size), []).append([max(column) for column in zip(*ranks)])
    for (name, size), samples in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        numbers = overlap_numbers([ratios.median(column) for column in zip(*samples)])
        rows.append({"case": case.name, "library": name, "bytes": size, **{key: round(v, 4) for key, v in numbers.items()}})
    return rows


def startup_table(rows, given_up):
    if not rows:
        return []
    names = list(dict.fromkeys(row["library"] for row in rows))
    lines = ["", "start-up to the end of the first barrier, ms: from before the launcher / from main() of the first rank",
             f"{'ranks':>7}" + "".join(f"{cases.LIBRARIES[name]:>20}" for name in names)]
    for ranks in dict.fromkeys(row["ranks"] for row in rows):
        line = f"{ranks:>7}"
        for name in names:
            mine = [row for row in rows if row["library"] == name and row["ranks"] == ranks]
            text = f"{mine[0]['whole_s'] * 1e3:.0f} / {mine[0]['init_s'] * 1e3:.0f}" if mine else "-"
            line += f"{text:>20}"
        lines.append(line)
    return lines + ["  " + text for text in given_up]


def overlap_table(rows):
    if not rows:
        return []
    lines = ["",
             "overlap of a non-blocking all_reduce f32 with computation of the same length: share hidden, and how much longer "
             "the computation took; left alone / looked at every 20 us"]
    lines.append(f"{'':>7}{'size':>8}{'':>12}{'alone us':>10}{'hidden':>16}{'slowed':>16}")
    for row in rows:
        lines.append(f"{row['case']:>7}{cases.show_size(row['bytes']):>8}{cases.LIBRARIES[row['library']]:>12}"
                     f"{row['alone_us']:>10.0f}"
                     f"{row['hidden']:>8.0%}{row['hidden_polled']:>8.0%}{row['slowed']:>8.0%}{row['slowed_polled']:>8.0%}")
    return lines
