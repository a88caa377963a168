#!/usr/bin/env python3
# A rank is killed in the middle of a collective: every survivor ends within two seconds with an error that names the dead
# rank and no survivor, and nothing is left behind. The ranks know of each other by torchrun's variables alone, and something
# else listens on MASTER_PORT, as torchrun's store does.
import os
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
from jobs import FOREVER, Job, check, check_nothing_left, check_survivors, finish, own_world  # noqa: E402

own = own_world()
RANKS = 4
COLLECTIVES = [("all_reduce", "1M"), ("all_reduce", "8"), ("all_to_all", "256K"), ("broadcast", "1M"), ("reduce", "64K"),
               ("barrier", "0"), ("all_gather", "64"), ("sendrecv", "4K")]


def kill_one(transport, victim, collective, size):
    what = f"{collective} {size} over {transport}, rank {victim} killed"
    with socket.socket() as alien:
        alien.bind(("127.0.0.1", 0))
        alien.listen()
        job = Job(RANKS, [collective, "-b", size, "-e", size, *FOREVER], {"WEFT_TRANSPORTS": transport},
                  port=alien.getsockname()[1])
        if job.wait_running():
            since = time.monotonic()
            job.kill(victim)
            slowest = check_survivors(job, what, [victim], since)
            check(job.wait(1) and job.processes[victim].returncode == -signal.SIGKILL, f"{what}: {job.codes()}")
            print(f"{what}: the last survivor ended after {slowest:.2f} s", flush=True)
        job.end()
    if own:
        check_nothing_left(what)


def main():
    turn = 0
    for transport in ("shm", "tcp"):
        for victim in (0, 1, RANKS - 1):
            for _ in range(2):
                collective, size = COLLECTIVES[turn % len(COLLECTIVES)]
                kill_one(transport, victim, collective, size)
                turn += 1 if turn % 4 != 3 else 2 # both transports see other pairs
    if not own:
        print("no namespaces of our own: what is left in /dev/shm, /tmp and among Unix sockets was not looked at")


try:
    main()
finally:
    finish()
