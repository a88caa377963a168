#!/usr/bin/env python3
"""What is tested inside the machine: the conformance suite over real queue pairs, collectives that cross the link, a
communicator that mixes transports, a killed rank, a link that goes down; the transport ucx over the same devices. Run by
tests/rdma/verbs.py and tests/rdma/ucx.py."""
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "multi", "support"))
from jobs import BUILD, FOREVER, PERF, Job, check, check_survivors, finish  # noqa: E402

DEVICES = ["rxe0", "rxe1"]
LINKS = ["veth0", "veth1"]


def note(text):
    with open("/proc/uptime", encoding="ascii") as file:
        print(f"[{file.read().split()[0]} s] {text}", flush=True)


def crossed():
    """Bytes that have gone out of each end of the link."""
    total = []
    for link in LINKS:
        with open(f"/sys/class/net/{link}/statistics/tx_bytes", encoding="ascii") as file:
            total.append(int(file.read()))
    return total


def one_device(rank):
    """Neighbouring ranks at different ends of the link."""
    return {"WEFT_IB_HCA": DEVICES[rank % 2]}


def both_devices(rank):
    """Two rails, each of which crosses the link: ranks list the devices in different orders."""
    return {"WEFT_IB_HCA": ",".join(DEVICES if rank % 2 == 0 else DEVICES[::-1])}


def collective(ranks, arguments, each, limit=60, environment=None):
    """Runs it with every result checked; what rank 0 said."""
    before = crossed()
    job = Job(ranks, arguments, environment or {"WEFT_TRANSPORTS": "verbs"}, each=each)
    what = f"{ranks} ranks, {' '.join(arguments)}"
    ended = check(job.wait(limit), f"{what}: not done after {limit} s: {job.all_errors()}")
    if ended:
        check(set(job.codes().values()) == {0}, f"{what}: {job.codes()}: {job.all_errors()}")
        check("Out of bounds values : 0 OK" in job.out() or arguments[0] == "barrier", f"{what}: {job.out()[-600:]}")
    text = job.out()
    job.end()
    sent = [after - b for after, b in zip(crossed(), before)]
    note(f"{what}: {sent[0]} and {sent[1]} bytes crossed the link")
    return text, sent


def conformance():
    result = subprocess.run([os.path.join(BUILD, "tests", "conformance", "test_verbs"), "real"], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, timeout=180, check=False)
    passed = re.search(r"\[  PASSED  \] (\d+) test", result.stdout)
    check(result.returncode == 0, f"the conformance suite ended with {result.returncode}:\n{result.stdout[-3000:]}")
    note(f"conformance: {passed.group(1) if passed else 'no'} tests passed")


def collectives():
    """Two devices, one for each rank: all bytes between even and odd ranks cross the link."""
    for ranks, name, largest in ((2, "all_reduce", "1M"), (4, "all_gather", "128K"), (8, "all_reduce", "64K"),
                                 (3, "all_to_all", "96K"), (4, "broadcast", "300000")):
        size = int(largest.replace("M", "000000").replace("K", "000"))
        _, sent = collective(ranks, [name, "-b", largest, "-e", largest, "-n", "2", "-w", "1"], one_device)
        check(sum(sent) > size, f"{ranks} ranks, {name}: only {sent} bytes crossed the link")
    for name in ("reduce_scatter", "reduce", "gather", "scatter", "sendrecv"):
        collective(2, [name, "-b", "8", "-e", "80000", "-f", "100", "-n", "1", "-w", "0"], one_device)


def rails():
    """Two rails: what a rank sends goes out of both ends of the link, in equal shares, or by weight."""
    arguments = ["all_reduce", "-b", "1M", "-e", "1M", "-n", "2", "-w", "1", "--registered"]
    _, sent = collective(2, arguments, both_devices)
    check(min(sent) > 0.8 * max(sent), f"two equal rails, but {sent} bytes")
    weighted = {0: "rxe0*3,rxe1", 1: "rxe1*3,rxe0"}
    _, sent = collective(2, ["broadcast", *arguments[1:]], lambda rank: {"WEFT_IB_HCA": weighted[rank]})
    check(sent[0] > 2 * sent[1], f"rails of weights 3 and 1, but {sent} bytes: the root sends over rxe0 at 3 to 1")


def settings():
    """IPv6 addresses, small packets and a traffic class; what cannot be is refused by name."""
    collective(2, ["all_reduce", "-b", "100000", "-e", "100000", "-n", "1", "-w", "0"],
               lambda rank: {**one_device(rank), "WEFT_IB_GID_INDEX": "2", "WEFT_IB_MTU": "1024", "WEFT_IB_TC": "104"})
    for variable, value, word in (("WEFT_IB_GID_INDEX", "77", "GID 77"), ("WEFT_IB_PKEY", "99", "partition key 99"),
                                  ("WEFT_IB_HCA", "mlx5", "mlx5")):
        result = subprocess.run([PERF, "barrier", "--ranks", "2", "--transport", "verbs"], capture_output=True, text=True,
                                timeout=60, env={**os.environ, variable: value}, check=False)
        check(result.returncode == 1 and word in result.stderr, f"{variable}={value}: {result.returncode}, {result.stderr[:400]}")


def mixed():
    """Two hosts of two ranks; the last rank has no RDMA device: shared memory, verbs and tcp in one communicator."""
    def each(rank):
        return {"WEFT_HOST_ID": f"host{rank // 2}", "WEFT_IB_HCA": DEVICES[rank // 2] if rank < 3 else "none"}
    before = crossed()
    for algorithm in ("ring", "direct"):
        name = "all_reduce" if algorithm == "ring" else "all_to_all"
        chosen = ["--algorithm", "ring"] if algorithm == "ring" else []
        arguments = [name, "-b", "64K", "-e", "64K", "-n", "2", "-w", "1", *chosen]
        job = Job(4, arguments, {"WEFT_LOG": "info"}, each=each)
        if check(job.wait(60), f"mixed transports, {name}: {job.all_errors()}"):
            check(set(job.codes().values()) == {0}, f"mixed transports, {name}: {job.codes()}: {job.all_errors()}")
            check("transport verbs is not used" in job.err(3), f"rank 3 was to have no device: {job.err(3)[:500]}")
        job.end()
    note(f"mixed transports: {[a - b for a, b in zip(crossed(), before)]} bytes crossed the link")


def kill_a_rank():
    for ranks, victim, size in ((3, 1, "256K"), (4, 0, "8")):
        job = Job(ranks, ["all_reduce", "-b", size, "-e", size, *FOREVER], {"WEFT_TRANSPORTS": "verbs"}, each=one_device)
        if job.wait_running():
            since = time.monotonic()
            job.kill(victim)
            slowest = check_survivors(job, f"rank {victim} of {ranks} killed", [victim], since)
            note(f"rank {victim} of {ranks} killed: the last survivor ended after {slowest:.2f} s")
        job.end()


def link_down():
    """Both ranks end with an error that names a device; afterwards it works again."""
    job = Job(2, ["all_reduce", "-b", "128K", "-e", "128K", *FOREVER], {"WEFT_TRANSPORTS": "verbs", "WEFT_INTERFACES": "lo"},
              each=one_device)
    if job.wait_running():
        subprocess.run(["ip", "link", "set", "veth1", "down"], check=True)
        since = time.monotonic()
        if check(job.wait(20), f"the link went down, and ranks go on: {job.codes()}"):
            note(f"the link went down: all ended after {time.monotonic() - since:.2f} s")
            for rank in range(2):
                check(job.codes()[rank] == 1, f"rank {rank} ended with {job.codes()[rank]} when the link went down")
                check(re.search(r"rxe[01]:1", job.err(rank)), f"rank {rank} names no device: {job.err(rank)[:600]}")
        else:
            note(str(job.all_errors()))
    job.end()


# ---- the transport ucx ----

# UCX's connectionless ud compares addresses as its own adapters report them: with rdma_rxe only IPv6 ones match. It also
# makes the connections of rc.
UCX = {"WEFT_TRANSPORTS": "ucx", "UCX_IB_GID_INDEX": "2", "UCX_WARN_UNUSED_ENV_VARS": "n"}
# What UCX needs to notice a death by itself within seconds; its defaults take a minute, and 7 retries are "for ever" with
# rdma_rxe.
UCX_NOTICES = {"UCX_KEEPALIVE_INTERVAL": "1s", "UCX_UD_VERBS_TIMEOUT": "3s", "UCX_RC_VERBS_TIMEOUT": "0.1s",
               "UCX_RC_VERBS_RETRY_COUNT": "6"}
OVER_UCX = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "reduce", "gather", "scatter", "sendrecv")


def ucx_device(rank):
    return {"UCX_NET_DEVICES": f"{DEVICES[rank % 2]}:1"}


def ucx_conformance(kind):
    result = subprocess.run([os.path.join(BUILD, "tests", "conformance", "test_library"), "ucx", "dies", "24"],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200, check=False,
                            env={**os.environ, **UCX, **UCX_NOTICES, "UCX_TLS": kind,
                                 "WEFT_PLUGIN_PATH": os.path.join(BUILD, "lib", "weft")})
    passed = re.search(r"\[  PASSED  \] (\d+) test", result.stdout)
    check(result.returncode == 0,
          f"ucx over {kind}: the conformance suite ended with {result.returncode}:\n{result.stdout[-3000:]}")
    note(f"ucx over {kind}, conformance: {passed.group(1) if passed else 'no'} tests passed")


def ucx_collectives(kind):
    """All of them, of a few bytes and by rendezvous; bytes between the two ranks cross the link."""
    for name in OVER_UCX:
        _, sent = collective(2, [name, "-b", "8", "-e", "200000", "-f", "5000", "-n", "1", "-w", "0"], ucx_device,
                             environment={**UCX, "UCX_TLS": kind})
        check(sum(sent) > 80000, f"{name} over ucx, {kind}: only {sent} bytes crossed the link")
    for ranks, name, size in ((4, "all_reduce", "64K"), (2, "barrier", "8")):
        collective(ranks, [name, "-b", size, "-e", size, "-n", "1", "-w", "0"], ucx_device, environment={**UCX, "UCX_TLS": kind})


def ucx_kill_a_rank(kind):
    """With UCX's own settings: Weft's control plane finds the death."""
    job = Job(3, ["all_reduce", "-b", "64K", "-e", "64K", *FOREVER], {**UCX, "UCX_TLS": kind}, each=ucx_device)
    if job.wait_running():
        since = time.monotonic()
        job.kill(1)
        slowest = check_survivors(job, f"rank 1 of 3 over ucx, {kind}, killed", [1], since)
        note(f"rank 1 of 3 over ucx, {kind}, killed: the last survivor ended after {slowest:.2f} s")
    job.end()


def over_ucx():
    for kind in ("rc", "ud"):
        ucx_collectives(kind)
        ucx_kill_a_rank(kind)
        ucx_conformance(kind)


PARTS = {"conformance": conformance, "collectives": collectives, "rails": rails, "settings": settings, "mixed": mixed,
         "kill_a_rank": kill_a_rank, "link_down": link_down, "ucx": over_ucx}

try:
    for part in sys.argv[1:] or [name for name in PARTS if name != "ucx"]:
        PARTS[part]()
finally:
    finish()
