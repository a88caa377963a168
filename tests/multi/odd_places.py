#!/usr/bin/env python3
# mostly waits
"""What a user meets on poor machines and with an impatient hand: few descriptors, no standard streams, small files, no interface
that is up, a meeting place or a rank that is not there yet, Ctrl-C in --tune and --measure. The reason is said at once or after
seconds, and nothing is left."""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
from jobs import BUILD, PERF, Job, check, check_nothing_left, finish, own_world, skip  # noqa: E402

TOPO = os.path.join(BUILD, "bin", "weft-topo")
SMALL = ["all_reduce", "-b", "8", "-e", "64K", "-f", "64", "-n", "2", "-w", "1"]


def run(*command, limit=60):
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)


def few_descriptors():
    """Either they are enough or what is missing is said; nobody spins in a poll() that takes no more entries than these."""
    for count in (64, 24, 16):
        done = run("sh", "-c", f"ulimit -n {count}; exec \"$@\"", "sh", PERF, *SMALL, "--ranks", "3")
        check(done.returncode == 0 or "ulimit -n" in done.stderr or "Too many open files" in done.stderr,
              f"with {count} descriptors: {done.returncode}: {done.stderr[:400]}")
        check(done.returncode == 0 or count < 64, f"64 descriptors are too few: {done.stderr[:400]}")


def without_standard_streams():
    """As of a daemon that closed them: no connection of Weft's becomes number 2, where the log would be written to a peer."""
    for transport in ("shm", "tcp"):
        job = Job(2, [*SMALL, "--transport", transport], {"WEFT_LOG": "debug", "WEFT_TIMEOUT": "10s"},
                  prefix=lambda _: ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
        check(job.wait(30) and set(job.codes().values()) == {0}, f"closed standard streams, {transport}: {job.codes()}")
        job.end()


def small_files():
    """Shared memory counts as a file; the rank that may not make it says so, the others do not make up a reason."""
    done = run("prlimit", "--fsize=100000", PERF, *SMALL, "--ranks", "2", "--transport", "shm")
    check(done.returncode == 1 and "ulimit -f" in done.stderr and "No such file" not in done.stderr,
          f"small files: {done.returncode}: {done.stderr[:400]}")
    done = run("prlimit", "--fsize=100000", PERF, *SMALL, "--ranks", "2", "--transport", "tcp")
    check(done.returncode == 0, f"small files, tcp: {done.returncode}: {done.stderr[:400]}")


def no_interface():
    done = run("unshare", "--net", PERF, *SMALL, "--ranks", "2")
    check(done.returncode == 1 and "no network interface is up" in done.stderr and "ip link" in done.stderr,
          f"without any interface: {done.returncode}: {done.stderr[:400]}")
    done = run("env", "WEFT_INTERFACES=ib", PERF, *SMALL, "--ranks", "2")
    check("there are: lo\n" in done.stderr, f"interfaces are not listed once each: {done.stderr[:400]}")


def interrupted():
    """An earlier table survives a --tune that is broken off, and --measure leaves no folder."""
    table, machine = os.path.join(BUILD, "odd_places.table"), os.path.join(BUILD, "odd_places.xml")
    with open(table, "w", encoding="utf-8") as file:
        file.write("# an earlier table\n")
    for what, command in (("--tune", [PERF, "--ranks", "2", "--tune", table, "-e", "4K"]),
                          ("--measure", [TOPO, "--measure", machine, "--ranks", "4"])):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        while what == "--tune" and b"all_gather" not in process.stdout.readline():
            if process.poll() is not None:
                break
        time.sleep(0.05)  # anywhere on the way
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=20)
    with open(table, encoding="utf-8") as file:
        kept = file.read()
    check(kept == "# an earlier table\n", f"a --tune that was broken off left: {kept[:200]!r}")
    os.remove(table)
    if os.path.exists(machine):
        os.remove(machine)


def awaited():
    """Who is waited for is said while there is still time to mend it."""
    late = Job(2, SMALL, {"WEFT_CREATE_TIMEOUT": "60s"}, only=[0])
    lost = Job(2, SMALL, {"WEFT_CREATE_TIMEOUT": "60s"}, only=[1], master="no-such-host.invalid")
    until = time.monotonic() + 40
    while time.monotonic() < until and not ("rank 1 did not join yet" in late.err(0) and "no-such-host" in lost.err(1)):
        time.sleep(0.1)
    check("rank 1 did not join yet" in late.err(0) and "WEFT_CREATE_TIMEOUT" in late.err(0), f"a late rank: {late.err(0)[:400]}")
    check("cannot be resolved" in lost.err(1) and "WEFT_CREATE_TIMEOUT" in lost.err(1), f"a lost place: {lost.err(1)[:400]}")
    late.start(1)
    check(late.wait(30) and set(late.codes().values()) == {0}, f"the late rank came: {late.codes()} {late.all_errors()}")
    late.end()
    lost.end()


if not own_world():
    skip("no namespaces of its own to be had here (unshare --net --mount)")
few_descriptors()
without_standard_streams()
small_files()
no_interface()
interrupted()
awaited()
check_nothing_left("all of it")
finish()
