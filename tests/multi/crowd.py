#!/usr/bin/env python3
# More ranks than cores: eight do every collective quickly enough, hundreds meet and reach a barrier; how long that takes and
# grows is printed, not judged. A small /dev/shm is not used. Ctrl-C leaves nothing.
# runs alone
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
from jobs import PERF, alive, check, check_nothing_left, finish, own_world  # noqa: E402

own = own_world()
COLLECTIVES = ["all_reduce", "all_gather", "reduce_scatter", "broadcast", "reduce", "gather", "scatter", "all_to_all", "barrier",
               "sendrecv"]


def run(*arguments, limit=60, **keywords):
    try:
        return subprocess.run([PERF, *arguments], capture_output=True, text=True, timeout=limit, check=False, **keywords)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(arguments, 124, "", f"not over after {limit} s")


def eight_ranks():
    for transport in ("shm", "tcp"):
        start = time.monotonic()
        for collective in COLLECTIVES:
            done = run(collective, "--ranks", "8", "-b", "8", "-e", "4K", "-f", "512", "-n", "5", "-w", "1", "--transport",
                       transport)
            check(done.returncode == 0,
                  f"8 ranks, {collective} over {transport}: {done.returncode} {done.stdout[-300:]} {done.stderr[:500]}")
        print(f"8 ranks on {os.cpu_count()} cores, all collectives over {transport}: {time.monotonic() - start:.1f} s",
              flush=True)


def many_ranks():
    times = {}
    for ranks in (16, 64, 128, 256, 512):
        start = time.monotonic()
        done = run("barrier", "--ranks", str(ranks), "-n", "1", "-w", "0", "-c", "0")
        times[ranks] = time.monotonic() - start
        check(done.returncode == 0, f"{ranks} ranks: {done.returncode} {done.stdout[-300:]} {done.stderr[:500]}")
        print(f"{ranks} ranks from start to the end of their first barrier: {times[ranks]:.2f} s, "
              f"{1000 * times[ranks] / ranks:.1f} ms per rank", flush=True)
        if times[ranks] > 8:
            print("larger ones are left out on this machine")
            break


def small_shared_memory():
    """A container's /dev/shm of 64 MiB. In a world of our own it is empty and ours."""
    if not own:
        print("no namespaces of our own: /dev/shm is not made small")
        return
    subprocess.run(["mount", "-o", "remount,size=64M", "/dev/shm"], check=False)
    for flags in ([], ["--registered"]):
        done = run("all_reduce", "--ranks", "4", "-b", "32M", "-e", "32M", "-n", "2", *flags)
        check(done.returncode == 0, f"64 MiB of /dev/shm {flags}: {done.returncode} {done.stderr[:500]}")
        used = os.statvfs("/dev/shm")
        check(used.f_bfree == used.f_blocks, "/dev/shm was used")


def interrupted():
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen([PERF, "all_reduce", "--ranks", "6", "-b", "1M", "-e", "1M", "-n", "2000000000", "-c", "0"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in process.stdout:
            if "(elements)" in line:
                break
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="utf-8") as file:
            children = [int(word) for word in file.read().split()]
        start = time.monotonic()
        process.send_signal(number)
        try:
            errors = process.communicate(timeout=10)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            errors = process.communicate()[1]
            check(False, f"{number.name}: the launcher does not end")
        check(process.returncode == -number, f"{number.name}: ended with {process.returncode}: {errors[:300]}")
        check(len(children) == 6 and not any(alive(pid) for pid in children), f"{number.name}: ranks are left")
        check(errors == "", f"{number.name}: somebody complains: {errors[:300]}")
        print(f"{number.name}: all gone after {time.monotonic() - start:.2f} s", flush=True)


try:
    for test in (interrupted, small_shared_memory, eight_ranks, many_ranks):
        test()
    if own:
        check_nothing_left("at the end")
finally:
    finish()
