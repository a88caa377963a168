#!/usr/bin/env python3
# mostly waits
# A rank that stands still for a while is not dead: nobody complains and the run ends well. One that stands still for longer
# than the time limit: every other rank ends, and its flight recorder says which collective and who is absent.
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
from jobs import FOREVER, Job, absent, check, check_nothing_left, check_survivors, finish, own_world  # noqa: E402

own = own_world()
RANKS, STOPPED = 4, 2
# Beyond it: the verdict, the last slices, the goodbye that one does not answer.
STANDSTILL_S, LIMIT_S = 3, 1.5


def only_slow(transport):
    what = f"a rank that stands still for {STANDSTILL_S} s over {transport}"
    job = Job(RANKS, ["all_reduce", "-b", "256K", "-e", "256K", "-n", "1000", "-c", "0"], {"WEFT_TRANSPORTS": transport,
                                                                                            "WEFT_DEAD_PEER": "1s"})
    if job.wait_running():
        job.kill(STOPPED, signal.SIGSTOP)
        check(not job.wait(STANDSTILL_S), f"{what}: the run went on without it or ended: {job.codes()} {job.all_errors()}")
        job.kill(STOPPED, signal.SIGCONT)
        check(job.wait(60), f"{what}: hangs")
        check(set(job.codes().values()) == {0}, f"{what}: {job.codes()} {job.all_errors()}")
        check(job.all_errors() == [""], f"{what}: {job.all_errors()}")
    job.end()


def too_slow(transport, collective, size):
    what = f"{collective} {size} over {transport} beyond its time limit"
    job = Job(RANKS, [collective, "-b", size, "-e", size, *FOREVER], {"WEFT_TRANSPORTS": transport, "WEFT_TIMEOUT": "1500ms"})
    if job.wait_running():
        since = time.monotonic()
        job.kill(STOPPED, signal.SIGSTOP)
        stopped = job.processes.pop(STOPPED)
        slowest = check_survivors(job, what, [STOPPED], since, limit=LIMIT_S + 3, names=absent)
        for rank in job.processes:
            said = job.err(rank)
            check("flight recorder" in said, f"{what}: rank {rank} shows no flight recorder: {said[:500]}")
            check(re.search(rf"{collective}.*under way", said),
                  f"{what}: rank {rank}'s recorder does not show the call: {said[-700:]}")
            check(f"recorder: communicator 1, rank {rank} of {RANKS}, timed out: " in said
                  and f"; absent: rank {STOPPED}" in said,
                  f"{what}: rank {rank}'s recorder does not name the absent one: {said[-700:]}")
        job.processes[STOPPED] = stopped
        print(f"{what}: the last one ended after {slowest:.2f} s", flush=True)
    job.end()


try:
    for each in ("shm", "tcp"):
        only_slow(each)
        too_slow(each, "all_reduce", "1M")
        too_slow(each, "barrier", "0")
    if own:
        check_nothing_left("at the end")
finally:
    finish()
