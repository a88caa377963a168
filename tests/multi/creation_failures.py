#!/usr/bin/env python3
# mostly waits
# Groups that cannot come together: each rank ends in time with an error that names the culprit, rank, address or setting.
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
from jobs import Job, check, check_nothing_left, finish, free_port, own_world  # noqa: E402

own = own_world()
RUN = ["all_reduce", "-e", "8", "-n", "1"]


def fails(what, job, limit, *parts, which=None):
    """Every rank fails within `limit` seconds and says all the parts (those of `which` ranks; the others at least fail)."""
    check(job.wait(limit), f"{what}: hangs: {job.all_errors()}")
    for rank, process in job.processes.items():
        said = job.err(rank)
        check(process.returncode == 1 or process.returncode == 2,
              f"{what}: rank {rank} ended with {process.returncode}: {said[:300]}")
        for part in parts if which is None or rank in which else ():
            check(part in said, f"{what}: rank {rank} does not say '{part}': {said[:400]}")
    job.end()
    print(f"{what}: {time.monotonic() - job.started:.1f} s", flush=True)


def main():
    two = {"WEFT_CREATE_TIMEOUT": "2s"}
    fails("a rank that never comes", Job(4, RUN, two, only=[0, 1, 3]), 8, "rank 2", "did not join")
    fails("rank 0 never comes", Job(4, RUN, two, only=[1, 2]), 8, "127.0.0.1")
    fails("two ranks with one number", Job(3, RUN, {"WEFT_CREATE_TIMEOUT": "10s"}, each=lambda r: {"RANK": str((r + 1) // 2)}), 9,
          "rank 1")
    fails("two ranks 0, and one missing", Job(3, RUN, {"WEFT_CREATE_TIMEOUT": "10s"}, each=lambda r: {"RANK": "001"[r]}), 9,
          "rank 0 joined twice")
    port = free_port()
    meeting = {"WEFT_CREATE_TIMEOUT": "10s", "WEFT_RENDEZVOUS": f"tcp://127.0.0.1:{port}"}
    fails("two ranks 0 at a URL of one port", Job(3, RUN, meeting, each=lambda r: {"RANK": "001"[r]}), 9, "rank 0 joined twice")
    fails("ranks that do not agree how many they are",
          Job(3, RUN, {"WEFT_CREATE_TIMEOUT": "10s"}, each=lambda r: {"WORLD_SIZE": "4" if r == 2 else "3"}), 9, "rank 2", "4")
    fails("a number beyond the size", Job(2, RUN, two, each=lambda r: {"RANK": str(2 * r)}), 8, "RANK", "2", which=[1])
    fails("no number", Job(2, RUN, two, each=lambda r: {"RANK": ["0", "first"][r]}), 8, "RANK", "first", which=[1])
    fails("a name that does not resolve", Job(2, RUN, two, master="no-such-host.invalid"), 8, "no-such-host.invalid")
    fails("an address that is nobody's", Job(2, RUN, two, master="203.0.113.1"), 8, "203.0.113.1")
    fails("no port", Job(2, RUN, two, port="seventy"), 8, "MASTER_PORT", "seventy")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fails("a port that is in use", Job(2, RUN, {**two, "WEFT_RENDEZVOUS": f"tcp://127.0.0.1:{port}"}), 8, str(port))
    fails("a file that cannot be written", Job(2, RUN, {**two, "WEFT_RENDEZVOUS": "file:///no/such/place"}), 8, "/no/such/place")
    fails("a URL of another kind", Job(2, RUN, {**two, "WEFT_RENDEZVOUS": "udp://127.0.0.1:9"}), 8, "WEFT_RENDEZVOUS", "udp")
    for name, value in (("WEFT_TIMEOUT", "soon"), ("WEFT_TRANSPORTS", "shm,carrier"), ("WEFT_SLICE_BYTES", "12Q"),
                        ("WEFT_LANES", "-3"), ("WEFT_PORT_RANGE", "9-2"), ("WEFT_ALGORITHM", "quick"), ("WEFT_LOG", "loud")):
        fails(f"{name}={value}", Job(2, RUN, {**two, "WEFT_TRANSPORTS": "tcp", name: value}), 8, value.split(",")[-1])
    # One rank's bad setting: the others hear of it and need not wait until the deadline.
    fails("one rank's bad transport", Job(3, RUN, {"WEFT_CREATE_TIMEOUT": "20s"},
                                          each=lambda r: {"WEFT_TRANSPORTS": "xyz" if r == 1 else "auto"}),
          9, "xyz")
    fails("no port of the range is free", Job(2, RUN, {**two, "WEFT_TRANSPORTS": "tcp", "WEFT_PORT_RANGE": "1-1"}), 8, which=[])
    # After all that, the world is as it was.
    good = Job(3, RUN, {"WEFT_RENDEZVOUS": f"tcp://127.0.0.1:{free_port()}"})
    check(good.wait(20) and set(good.codes().values()) == {0}, f"a good run after the bad ones: {good.all_errors()}")
    good.end()
    if own:
        check_nothing_left("at the end")


try:
    main()
finally:
    finish()
