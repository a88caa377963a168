"""The floors of a run: what compare-floors and iperf3 measured, and what follows from them for one cell of one case."""
import json
import math
import shutil
import statistics
import subprocess

import launch
import ports
from cases import IN_MEMORY


def inside(table, size):
    """Value at `size` of a measured table {bytes: us}: measured there, or between its neighbours in proportion."""
    points = sorted((int(key), value) for key, value in table.items())
    if not points or size < points[0][0]:
        return points[0][1] if points else None
    for (low, low_us), (high, high_us) in zip(points, points[1:]):
        if low <= size <= high:
            return low_us + (high_us - low_us) * (size - low) / (high - low)
    return points[-1][1] * size / points[-1][0]


def goodput(server, client, address, both_ways):
    """iperf3's goodput in bytes per second and way; None: no iperf3 or no answer."""
    if shutil.which("iperf3") is None:
        return None
    port = str(ports.free_port())
    serving = subprocess.Popen(server + ["iperf3", "-s", "-1", "-p", port, "--forceflush"], stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.DEVNULL, preexec_fn=launch.die_with_parent)
    try:
        for line in serving.stdout:
            if "listening" in line:
                break
        done = subprocess.run(client + ["iperf3", "-c", address, "-p", port, "-t", "2", "-O", "1", "-J"] +
                              (["--bidir"] if both_ways else []), capture_output=True, text=True, timeout=30, check=False)
        end = json.loads(done.stdout)["end"]
        rates = [end[key]["bits_per_second"] / 8 for key in ("sum_received", "sum_received_bidir_reverse") if key in end]
        return min(rates)
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    finally:
        launch.end([serving])


def socket_exchange(program, server, client, address):
    port = str(ports.free_port())
    serving = subprocess.Popen(server + [program, "serve", port], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL,
                               preexec_fn=launch.die_with_parent)
    try:
        serving.stdout.readline()
        done = subprocess.run(client + [program, "connect", address, port], capture_output=True, text=True, timeout=120,
                              check=False)
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    finally:
        launch.end([serving])


def measure_loops(program, sizes):
    """Of the loops on this host."""
    done = subprocess.run([program, "local", ",".join(str(s) for s in sizes if s)], capture_output=True, text=True, timeout=300,
                          check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def medians(rounds):
    """One like each of `rounds`, which have the same keys: of each number the median."""
    if isinstance(rounds[0], dict):
        return {key: medians([one[key] for one in rounds if key in one]) for key in rounds[0]}
    return statistics.median(rounds)


def measure_sockets(program, cases, places):
    """Per socket case of exchanges over one socket and iperf3's goodput, what can be measured."""
    floors = {}
    for case in cases:
        if case.kind in IN_MEMORY:
            continue
        place = places[case.name]
        first, second = place.prefix(0), place.prefix(case.ranks - 1)
        address = place.addresses[0] if place.addresses else "127.0.0.1"
        if case.kind in floors:  # equal links
            continue
        floors[case.kind] = {"exchange_us": socket_exchange(program, first, second, address),
                             "one_way_Bps": goodput(first, second, address, False),
                             "both_ways_Bps": goodput(first, second, address, True)}
    return floors


def sent_bytes(collective, size, ends, ranks_of_end=1):
    """The least that the busiest end (a rank, or a host with equally many ranks as the others) must send (or receive) when all
    send to each other, of a cell's bytes."""
    if collective == "all_reduce":
        return 2 * size * (ends - 1) / ends
    if collective == "broadcast":
        return size
    return size * (ends - 1) / ends * (ranks_of_end if collective == "all_to_all" else 1)


def of_socket(case, cell, floors):
    """Between hosts: what a plain loop over one socket takes for 8 bytes, once per round, and the link's goodput. Over loopback,
    where the processors are the limit: what that loop takes for as many bytes as must be sent."""
    own = floors.get(case.kind) or {}
    table = own.get("exchange_us")
    if not table:
        return None
    ends = len(set(case.hosts)) or case.ranks
    sent = sent_bytes(cell.collective, cell.bytes, ends, case.ranks // ends)
    if case.kind == "tcp":
        return inside(table, sent / 2 if cell.collective == "broadcast" else sent)
    rate = own.get("one_way_Bps" if cell.collective == "broadcast" else "both_ways_Bps")
    return max(inside(table, 8) * math.ceil(math.log2(ends)), sent / rate * 1e6 if rate else 0)


def of_memory(case, cell, floors, cpus):
    """all_reduce: the plain loops, staged. The others: the whole output is written once, what belongs there is read once. More
    ranks than cores: these take turns."""
    if not floors.get("exchange_us"):
        return None
    turns = max(1, case.ranks / cpus)
    crossing = floors["exchange_us"]
    if cell.collective == "barrier":
        return crossing * turns
    if cell.collective == "all_reduce" and cell.type == "f32" and case.ranks == 2:
        return min(inside(floors[way], cell.bytes) for way in ("flat_us", "staged_us"))
    if cell.collective == "reduce_scatter":
        own = cell.bytes / case.ranks
        bytes_us = inside(floors["copy_us"], own) + inside(floors["read_us"], cell.bytes - own)
    else:
        bytes_us = inside(floors["copy_us"], cell.bytes)
    return turns * max(crossing, bytes_us)


def of(case, cell, floors, cpus):
    """us that the cell cannot well take less than; None: not known. The root of small broadcasts runs ahead of the others, so
    that what crossing takes is no limit of theirs."""
    if cell.collective == "broadcast" and cell.bytes < 4096:
        return None
    return of_memory(case, cell, floors, cpus) if case.kind in IN_MEMORY else of_socket(case, cell, floors)
