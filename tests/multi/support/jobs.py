# What the tests of bad days share: a world of their own (network, /tmp and /dev/shm that nobody else uses), ranks started
# as launchers start them, how they ended and what they said, what they left behind.
import ctypes
import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "perf", "compare"))
from ports import free_port  # noqa: E402

BUILD = os.environ.get("BUILD", "build")
PERF = os.path.join(BUILD, "bin", "weft-perf")
FOREVER = ["-n", "2000000000", "-w", "1", "-c", "0"]
# From the death of a rank, or from a time limit, to the end of the last survivor.
NOTICE_S = 2.0
problems = []
running = []


def check(condition, text):
    if not condition:
        problems.append(text)
        print("PROBLEM: " + text, flush=True)
    return condition


def skip(reason):
    print(reason)
    sys.exit(77)


def finish():
    for job in list(running):
        job.end()
    sys.exit(1 if problems else 0)


# ---- a world of our own ----------------------------------------------------------------------------------

def loopback_up():
    SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 1, 0x40
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", IFF_UP | IFF_RUNNING, b""))


def own_world():
    """Runs this script again in new network and mount namespaces, where it sees what its ranks leave behind. False: not
    to be had here, what follows runs in the world of all."""
    unshare = ["unshare", "--net", "--mount"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
    if os.environ.pop("OWN_WORLD", None) is None:
        try:
            tried = subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/dev/shm"], stderr=subprocess.DEVNULL, check=False)
        except OSError:
            return False
        if tried.returncode != 0:
            return False
        os.environ["OWN_WORLD"] = "1"
        os.execvp("unshare", [*unshare, sys.executable, *sys.argv])
    loopback_up()
    for directory in watched():
        if ctypes.CDLL(None).mount(b"none", directory.encode(), b"tmpfs", 0, None) != 0:
            sys.exit(f"cannot mount {directory}")
    return True


def watched():
    # A relative way to the programs leads past the new /tmp.
    return ["/dev/shm"] + ([] if os.path.isabs(BUILD) else ["/tmp"])


def check_nothing_left(what):
    """Only in a world of our own."""
    for directory in watched():
        left = os.listdir(directory)
        check(not left, f"{what}: left in {directory}: {left}")
    with open("/proc/net/unix", encoding="utf-8") as file:
        left = [line.strip() for line in file.readlines()[1:]]
    check(not left, f"{what}: left Unix sockets: {left}")


# ---- ranks -----------------------------------------------------------------------------------------------

def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def refuse(number, error):
    """From now on that system call fails so, for this process and what it starts."""
    PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
    LOAD, JUMP_IF_EQUAL, RETURN, ALLOW, ERRNO = 0x20, 0x15, 0x06, 0x7fff0000, 0x00050000
    program = [(LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | error), (RETURN, 0, 0, ALLOW)]
    steps = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    filters = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(steps)))
    libc = ctypes.CDLL(None)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filters) != 0:
        raise OSError("no seccomp filters here")


def die_with_parent():
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Job:
    """Ranks that know of each other by environment variables. each(rank) gives more of them, prefix(rank) what the rank is
    started by (ip netns exec ...); only: the ranks to start at once, of `size`; refused: a system call and how it fails."""

    def __init__(self, size, arguments, variables=None, each=None, prefix=None, only=None, master="127.0.0.1", port=None,
                 refused=None):
        self.size, self.arguments, self.each, self.prefix, self.refused = size, arguments, each, prefix, refused
        self.variables = {"WORLD_SIZE": str(size), "MASTER_ADDR": master, "MASTER_PORT": str(port or free_port()),
                          **(variables or {})}
        self.processes, self.outputs, self.ends = {}, {}, {}
        self.started = time.monotonic()
        running.append(self)
        for rank in range(size) if only is None else only:
            self.start(rank)

    def start(self, rank):
        environment = {**os.environ, "RANK": str(rank), **self.variables, **(self.each(rank) if self.each else {})}
        environment = {name: value for name, value in environment.items() if value is not None}
        self.outputs[rank] = [tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")]
        command = (self.prefix(rank) if self.prefix else []) + [PERF, *self.arguments]
        self.processes[rank] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.outputs[rank][0],
                                                stderr=self.outputs[rank][1], env=environment, preexec_fn=self.prepare)

    def prepare(self):
        die_with_parent()
        if self.refused:
            refuse(*self.refused)

    def text(self, rank, which):
        file = self.outputs[rank][which]
        file.flush()
        with open(f"/proc/self/fd/{file.fileno()}", encoding="utf-8", errors="replace") as again:
            return again.read()

    def out(self, rank=0):
        return self.text(rank, 0)

    def err(self, rank):
        return self.text(rank, 1)

    def poll(self):
        for rank, process in self.processes.items():
            if rank not in self.ends and process.poll() is not None:
                self.ends[rank] = time.monotonic()
        return len(self.ends) == len(self.processes)

    def wait(self, limit):
        """Until all have ended; False: not within `limit` seconds from now."""
        until = time.monotonic() + limit
        while not self.poll():
            if time.monotonic() > until:
                return False
            time.sleep(0.005)
        return True

    def wait_running(self, limit=20):
        """Until rank 0 has the table's head out: then all have met and begin to measure."""
        until = time.monotonic() + limit
        while "(elements)" not in self.out(0):
            if self.poll() or time.monotonic() > until:
                check(False, f"{self}: did not start: {self.all_errors()}")
                return False
            time.sleep(0.01)
        self.let_work()
        return True

    def let_work(self):
        """Until every rank has used some more of the processor, so that it is in the middle of its calls."""
        def ticks(pid):
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                return sum(int(word) for word in file.read().rsplit(")", 1)[1].split()[11:13])
        before = {p.pid: ticks(p.pid) for p in self.processes.values()}
        until = time.monotonic() + 2
        while time.monotonic() < until and any(alive(p) and ticks(p) <= before[p] for p in before):
            time.sleep(0.01)

    def kill(self, rank, number=signal.SIGKILL):
        self.processes[rank].send_signal(number)

    def codes(self):
        return {rank: process.returncode for rank, process in self.processes.items()}

    def all_errors(self):
        return sorted({self.err(rank)[:400] for rank in self.processes})

    def end(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        for files in self.outputs.values():
            for file in files:
                file.close()
        if self in running:
            running.remove(self)

    def __str__(self):
        settings = {k: v for k, v in self.variables.items() if k.startswith("WEFT_")}
        return f"{self.size} ranks, {' '.join(self.arguments)} {settings}"


def blamed(text):
    """The ranks that what a rank said on stderr names as culprits: all but the speaker and those who told it."""
    text = re.sub(r"(?m)^weft\[\d+\]|^weft-perf: rank \d+:|reported by rank \d+:|from rank \d+|by rank \d+|rank \d+ of \d+", "",
                  text)
    return {int(number) for number in re.findall(r"\brank (\d+)\b", text)}


def absent(text):
    """The ranks that a timeout's message calls absent."""
    lists = re.findall(r"; absent: ranks? ([\d, ]+)", text)
    return {int(number) for line in lists for number in re.findall(r"\d+", line)}


def check_survivors(job, what, victims, since, limit=NOTICE_S, names=blamed):
    """All ranks but the victims end within limit with an error that names a victim and nobody else."""
    others = [rank for rank in job.processes if rank not in victims]
    until = since + limit + 20
    while any(job.processes[rank].poll() is None for rank in others) and time.monotonic() < until:
        job.poll()
        time.sleep(0.005)
    job.poll()
    slowest = 0
    for rank in others:
        if not check(rank in job.ends, f"{what}: rank {rank} did not end"):
            continue
        slowest = max(slowest, job.ends[rank] - since)
        check(job.ends[rank] - since <= limit,
              f"{what}: rank {rank} ended after {job.ends[rank] - since:.2f} s: {job.err(rank)[:300]}")
        code = job.processes[rank].returncode
        check(code == 1, f"{what}: rank {rank} ended with {code}: {job.err(rank)[:300]}")
        named = names(job.err(rank))
        check(named == set(victims), f"{what}: rank {rank} blames {sorted(named)}: {job.err(rank)[:600]}")
    return slowest
