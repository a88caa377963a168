#!/usr/bin/env python3
# mostly waits
"""What a user meets on poor machines and with an impatient hand: few descriptors or threads, no standard streams, small files, a
full disk, a small stack, no interface that is up, a meeting place or a rank that is not there yet, Ctrl-C in --tune and
--measure, nohup, a launcher that is killed. The reason is said at once or after seconds, and nothing is left."""
import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
from jobs import BUILD, FOREVER, PERF, Job, alive, check, check_nothing_left, finish, free_port, own_world, skip  # noqa: E402

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


def refused_calls():
    """A sandbox that refuses what connections need is named at once, not when the time is over."""
    numbers = {"x86_64": {"socket": 41, "connect": 42, "accept4": 288, "sendto": 44, "recvfrom": 45, "sendmsg": 46,
                          "bind": 49, "listen": 50, "getsockname": 51, "getsockopt": 55, "poll": 7, "epoll_create1": 291,
                          "epoll_ctl": 233, "epoll_wait": 232, "eventfd": 290},
               "aarch64": {"socket": 198, "connect": 203, "accept4": 242, "sendto": 206, "recvfrom": 207, "sendmsg": 211,
                           "bind": 200, "listen": 201, "getsockname": 204, "getsockopt": 209, "poll": 73,
                           "epoll_create1": 20, "epoll_ctl": 21, "epoll_wait": 22, "eventfd": 19}}
    calls = numbers.get(os.uname().machine, {})
    for error in (errno.EPERM, errno.ENOSYS):
        jobs = {name: Job(2, SMALL, {"WEFT_CREATE_TIMEOUT": "1h"}, refused=(number, error)) for name, number in calls.items()}
        for name, job in jobs.items():
            check(job.wait(30) and set(job.codes().values()) == {1} and
                  all(f"may not call {name}" in job.err(rank) for rank in range(2)),
                  f"{name} refused: {job.codes()} {job.all_errors()}")
            job.end()


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


def small_stack():
    for transport in ("shm", "tcp"):
        done = run("sh", "-c", "ulimit -s 64; exec \"$@\"", "sh", PERF, *SMALL, "--ranks", "2", "--transport", transport)
        check(done.returncode == 0, f"64 KiB of stack, {transport}: {done.returncode}: {done.stderr[:400]}")


def few_threads():
    """Of a user whose limit the ranks themselves use up; root has none."""
    done = run("setpriv", "--reuid=54321", "--clear-groups", "prlimit", "--nproc=3", PERF, *SMALL, "--ranks", "2")
    if "setpriv" in done.stderr or "prlimit:" in done.stderr:
        print("a user with few threads was not tried: " + done.stderr.strip())
        return
    check(done.returncode == 1 and "ulimit -u" in done.stderr, f"few threads: {done.returncode}: {done.stderr[:400]}")


def full_disk():
    """An earlier file survives, a new one is not begun; links, FIFOs and streams are written to, not replaced."""
    disk = os.path.join(BUILD, "odd_places.disk")
    os.makedirs(disk, exist_ok=True)
    if ctypes.CDLL(None).mount(b"none", disk.encode(), b"tmpfs", 0, b"size=64k") != 0:
        print("a full disk was not tried: no tmpfs to be had")
        return
    def path(name):
        return os.path.join(disk, name)
    def content(name):
        with open(path(name), encoding="utf-8") as file:
            return file.read()
    ways = {"-J": [PERF, *SMALL, "--ranks", "1", "-J"], "--tune": [PERF, "barrier", "-n", "2", "--ranks", "2", "--tune"],
            "--measure": [TOPO, "--ranks", "2", "--measure"]}
    for what, command in ways.items():
        done = run(*command, path("good"))
        check(done.returncode == 0 and len(content("good")) > 50, f"{what}: {done.returncode}: {done.stderr[:400]}")
    os.chmod(path("good"), 0o640)
    os.symlink("good", path("link"))
    os.mkfifo(path("fifo"))
    done = run(*ways["-J"], path("link"))
    check(done.returncode == 0 and os.path.islink(path("link")) and "results" in json.loads(content("good")),
          f"a link: {done.stderr}")
    check(os.stat(path("good")).st_mode & 0o777 == 0o640, "the file's mode was not kept")
    with subprocess.Popen(["cat", path("fifo")], stdout=subprocess.PIPE, text=True) as reader:
        done = run(*ways["-J"], path("fifo"))
        check(done.returncode == 0 and "results" in json.loads(reader.communicate(timeout=20)[0]), f"a FIFO: {done.stderr}")
    with open(path("table"), "w", encoding="utf-8") as table:
        subprocess.run([*ways["-J"], "/dev/stdout"], stdout=table, timeout=60, check=False)
    text = content("table")
    check(text.startswith("#") and "results" in json.loads(text[text.index("\n{"):]), f"/dev/stdout into a file: {text[:400]!r}")
    before = content("good")
    os.remove(path("table"))
    with open(path("rest"), "wb", buffering=0) as rest:
        try:
            while True:
                rest.write(bytes(512))
        except OSError:
            pass
    there = sorted(os.listdir(disk))
    for what, command in ways.items():
        for name in ("good", "new"):
            done = run(*command, path(name))
            check(done.returncode == 1 and name in done.stderr and "No space left" in done.stderr,
                  f"{what} {name}, a full disk: {done.returncode}: {done.stderr[:400]}")
            check(content("good") == before and sorted(os.listdir(disk)) == there,
                  f"{what} {name}, a full disk: {os.listdir(disk)}")
    done = run("env", "WEFT_TOPO_DUMP_FILE=" + path("good"), TOPO)
    check(done.returncode != 0 and "No space left" in done.stderr and content("good") == before,
          f"a dump, a full disk: {done.stderr}")
    ctypes.CDLL(None).umount(disk.encode())
    os.rmdir(disk)


def ignored_signals():
    """As under nohup, and where a parent ignores the end of its children."""
    command = [PERF, *SMALL, "--ranks", "2", "-n", "1000"]
    process = subprocess.Popen(["sh", "-c", "trap '' INT HUP CHLD; exec \"$@\"", "sh", *command], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True)
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGHUP)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    check(process.returncode == 0, f"ignored SIGINT and SIGHUP: {process.returncode}: {errors[:400]}")


def killed_launcher():
    """The ranks of a launcher that was killed end too."""
    ranks = "".join(f"OMPI_COMM_WORLD_RANK={rank} OMPI_COMM_WORLD_SIZE=2 \"$@\" & echo $!; " for rank in range(2)) + "wait"
    place = "tcp://127.0.0.1:" + str(free_port())
    launcher = subprocess.Popen(["sh", "-c", ranks, "sh", PERF, "all_reduce", "-b", "64K", "-e", "64K", *FOREVER],
                                env={**os.environ, "WEFT_RENDEZVOUS": place}, stdout=subprocess.PIPE, text=True)
    pids = [int(launcher.stdout.readline()) for _ in range(2)]
    while "(elements)" not in launcher.stdout.readline() and launcher.poll() is None:
        pass
    launcher.kill()
    launcher.wait()
    until = time.monotonic() + 20
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.01)
    for pid in pids:
        if not check(not alive(pid), f"rank {pid} outlived its launcher"):
            os.kill(pid, signal.SIGKILL)


def unloaded():
    """dlclose() while a thread of the library lives."""
    if "san" in BUILD:
        return  # the interpreter has no sanitizer
    done = run(sys.executable, "-c", "import _ctypes, ctypes, sys, time\n"
               "weft = ctypes.CDLL(sys.argv[1])\n"
               "assert weft.weft_get_unique_id(ctypes.create_string_buffer(128)) == 0\n"
               "_ctypes.dlclose(weft._handle)\ntime.sleep(1.5)", os.path.join(BUILD, "lib", "libweft.so"))
    check(done.returncode == 0, f"dlclose: {done.returncode}: {done.stderr[-400:]}")


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
small_stack()
refused_calls()
few_threads()
full_disk()
no_interface()
interrupted()
ignored_signals()
killed_launcher()
unloaded()
awaited()
check_nothing_left("all of it")
finish()
