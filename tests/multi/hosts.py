#!/usr/bin/env python3
# Four hosts on one machine: network namespaces on a bridge, where ranks of different namespaces cannot share memory and meet
# over TCP only. All collectives on even, uneven and interleaved placements, forced hierarchical too; a rank that is killed, a
# host whose link goes down; which interfaces are used; IPv6 alone, then without any address but those of links.
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "support"))
from jobs import BUILD, FOREVER, Job, check, check_nothing_left, check_survivors, finish, free_port, own_world, skip  # noqa: E402

HOSTS = 4
COLLECTIVES = ["all_reduce", "all_gather", "reduce_scatter", "broadcast", "reduce", "gather", "scatter", "all_to_all", "barrier",
               "sendrecv"]
if os.geteuid() != 0:
    skip("hosts as network namespaces: needs root")
if not own_world():
    skip("hosts as network namespaces: they are not to be had here")


def ip(*arguments):
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        skip(f"hosts as network namespaces: ip {' '.join(arguments)}: {done.stderr.strip()}")


def inside(host):
    """What to put before a command that shall run on a host: a process holds each namespace open, so they go with it."""
    return ["nsenter", f"--net=/proc/{holders[host].pid}/ns/net"]


def on_host(host, *arguments):
    done = subprocess.run(inside(host) + ["ip", *arguments], capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"host {host}: ip {' '.join(arguments)}: {done.stderr}")


def on_host_tc(host, *arguments):
    done = subprocess.run(inside(host) + ["tc", *arguments], capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"host {host}: tc {' '.join(arguments)}: {done.stderr}")


def make_hosts():
    """h0 .. h3, each with eth0 (10.7.0.h+1, fd07::h+1) on one bridge and other0 (10.8.0.h+1) on another."""
    for bridge in ("lan", "side"):
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "set", bridge, "up")
    for host in range(HOSTS):
        holders.append(subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE))
        holders[host].stdout.readline()
        on_host(host, "link", "set", "lo", "up")
        for bridge, name, net in (("lan", "eth0", 7), ("side", "other0", 8)):
            ip("link", "add", f"{bridge}{host}", "type", "veth", "peer", "name", name, "netns", str(holders[host].pid))
            ip("link", "set", f"{bridge}{host}", "master", bridge, "up")
            on_host(host, "addr", "add", f"10.{net}.0.{host + 1}/24", "dev", name)
            if net == 7:
                on_host(host, "addr", "add", f"fd07::{host + 1}/64", "dev", name, "nodad")
            on_host(host, "link", "set", name, "up")


def job(placement, arguments, variables=None, master=None):
    """placement: the host of each rank."""
    return Job(len(placement), arguments, variables, prefix=lambda rank: inside(placement[rank]),
               master=master or f"10.7.0.{placement[0] + 1}")


def bytes_of(host, interface):
    total = 0
    for way in ("rx", "tx"):
        with open(f"/proc/{holders[host].pid}/net/dev", encoding="utf-8") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if name.strip() == interface:
                    total += int(rest.split()[0 if way == "rx" else 8])
    return total


def good_run(placement, arguments, variables=None, master=None):
    this = job(placement, arguments, variables, master)
    what = f"{this} at {placement}"
    check(this.wait(60), f"{what}: hangs: {this.out()[-600:]} {this.all_errors()}")
    check(set(this.codes().values()) == {0}, f"{what}: {this.codes()} {this.out()[-300:]} {this.all_errors()}")
    hosts = len(set(placement))
    check(f"{len(placement)} ranks on {hosts} host" in this.out(), f"{what}: {this.out()[:300]}")
    this.end()


def placements():
    two_each = [0, 0, 1, 1, 2, 2, 3, 3]
    uneven = [0, 0, 0, 1, 2, 2, 3, 3]
    interleaved = [0, 1, 2, 0, 3, 2, 0, 3]
    start = time.monotonic()
    for collective in COLLECTIVES:
        good_run(two_each, [collective, "-b", "8", "-e", "300000", "-f", "190", "-n", "2", "-w", "1"])
    print(f"two ranks on each of four hosts: {time.monotonic() - start:.1f} s", flush=True)
    start = time.monotonic()
    for placement in (uneven, interleaved):
        for collective in ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all"):
            good_run(placement, [collective, "-b", "64", "-e", "70000", "-f", "1000", "-n", "2", "-w", "1"])
    for placement in (two_each, uneven, interleaved):
        for collective in ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "reduce", "barrier"):
            good_run(placement, [collective, "--algorithm", "hierarchical", "-b", "4000", "-e", "70000", "-f", "17", "-n", "2",
                                 "-w", "1"])
    print(f"uneven, interleaved, hierarchical: {time.monotonic() - start:.1f} s", flush=True)


def killed_rank():
    placement = [0, 1, 2, 0, 3, 2, 1, 3]
    for victim in (0, 3, 7):
        this = job(placement, ["all_reduce", "-b", "1M", "-e", "1M", *FOREVER])
        what = f"rank {victim} of 8 on four hosts killed"
        if this.wait_running():
            since = time.monotonic()
            this.kill(victim)
            slowest = check_survivors(this, what, [victim], since)
            print(f"{what}: the last survivor ended after {slowest:.2f} s", flush=True)
        this.end()


def lost_host():
    """Nothing that a host sends arrives any more, as with a pulled cable or a power cut."""
    for host, collective in ((3, "all_reduce"), (1, "broadcast")):
        placement = [0, 1, 2, 3]
        this = job(placement, [collective, "-b", "256K", "-e", "256K", *FOREVER],
                   {"WEFT_DEAD_PEER": "3s", "WEFT_INTERFACES": "eth0"})
        what = f"host of rank {host} of 4 unreachable in {collective}"
        if this.wait_running():
            since = time.monotonic()
            ip("link", "set", f"lan{host}", "down")
            # The lost one sees nobody, so it cannot know that it is the one who is lost.
            cut_off = this.processes.pop(host)
            slowest = check_survivors(this, what, [host], since, limit=5)
            this.processes[host] = cut_off
            check(this.wait(5), f"{what}: the lost rank does not end")
            check(cut_off.returncode == 1, f"{what}: the lost rank ended with {cut_off.returncode}")
            print(f"{what}: the last survivor ended after {slowest:.2f} s", flush=True)
        ip("link", "set", f"lan{host}", "up")
        this.end()


def interfaces():
    placement = [0, 0, 1, 2]
    arguments = ["all_reduce", "-b", "1M", "-e", "1M", "-n", "10"]
    for setting, used, unused in (("eth", "eth0", "other0"), ("^eth0", "other0", "eth0"), ("eth0,lo", "eth0", "other0")):
        before = bytes_of(0, unused), bytes_of(0, used)
        good_run(placement, arguments, {"WEFT_INTERFACES": setting})
        grown = bytes_of(0, unused) - before[0], bytes_of(0, used) - before[1]
        check(grown[1] > 10 << 20, f"WEFT_INTERFACES={setting}: {used} carried {grown[1]} bytes")
        check(grown[0] < 1 << 20, f"WEFT_INTERFACES={setting}: {unused} carried {grown[0]} bytes")
    rails(arguments)
    near()
    this = job([0, 1], ["all_reduce", "-e", "8"], {"WEFT_INTERFACES": "ib", "WEFT_CREATE_TIMEOUT": "5s"})
    check(this.wait(10), "WEFT_INTERFACES=ib: hangs")
    for rank in range(2):
        check(this.processes[rank].returncode == 1 and "'ib'" in this.err(rank),
              f"WEFT_INTERFACES=ib: {this.codes()} {this.err(rank)}")
    this.end()


def rails(arguments):
    """Two interfaces of equal speed carry equally much, also where a collective has little under way at once; one that is held
    to a third of the other's speed carries less."""
    for rates, least, most in (((None, None), 0.4, 0.6), (("300mbit", "100mbit"), 0.1, 0.4)):
        for host in range(HOSTS):
            for name, rate in zip(("eth0", "other0"), rates):
                if rate:
                    on_host_tc(host, "qdisc", "add", "dev", name, "root", "tbf", "rate", rate, "burst", "64kb", "limit", "1mb")
        before = [bytes_of(0, name) for name in ("eth0", "other0")]
        good_run([0, 0, 1, 1, 2, 2, 3, 3], arguments, {"WEFT_ALGORITHM": "hierarchical"})
        grown = [bytes_of(0, name) - was for name, was in zip(("eth0", "other0"), before)]
        share = grown[1] / sum(grown)
        check(least < share < most, f"rails at {rates}: eth0 and other0 carried {grown} bytes")
    for host in range(HOSTS):
        for name in ("eth0", "other0"):
            on_host_tc(host, "qdisc", "del", "dev", name, "root")


MACHINE = """<weft-topology version="1"><nodes><node id="0" kind="network" parent="-1"/><node id="1" kind="host" parent="-1"/>
<node id="2" kind="numa" parent="1"><attributes cpus="%d"/></node>
<node id="3" kind="numa" parent="1"><attributes cpus="%d"/></node>
<node id="4" kind="nic" parent="2" name="eth0"/><node id="5" kind="nic" parent="3" name="other0"/></nodes><edges>
<edge kind="smp" a="2" b="3" bandwidth_Bps="1e10" latency_ns="100" source="table"/>
<edge kind="bus" a="4" b="2" bandwidth_Bps="1e10" latency_ns="100" source="assumed"/>
<edge kind="bus" a="5" b="3" bandwidth_Bps="1e10" latency_ns="100" source="assumed"/></edges></weft-topology>
"""


def near():
    """On a machine whose two interfaces are at a NUMA node each, two ranks keep to one each; one rank alone uses both, and so do
    two at one NUMA node."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        print("skipped: the nearest interface: one processor", flush=True)
        return
    path = "/dev/shm/near.xml"
    with open(path, "w", encoding="utf-8") as file:
        file.write(MACHINE % tuple(cpus[:2]))
    split = {0: "other0", 1: "eth0", 2: "other0", 3: "eth0"}
    # What other0 carries: of a gather to rank 0 rank 2's part goes over eth0, rank 3's over both, as neither is near at both
    # ends.
    for collective, algorithm, placement, bound, expected, least, most in (
            ("all_reduce", "hierarchical", [0, 0, 1, 1], [0, 1, 0, 1], split, 0.35, 0.65),
            ("gather", "linear", [0, 0, 1, 1], [0, 1, 0, 1], split, 0.15, 0.35),
            ("gather", "linear", [0, 0, 1, 1], [0, 0, 0, 0], {}, 0.4, 0.6),
            ("all_reduce", "ring", [0, 1], [0, 1], {}, 0.4, 0.6)):
        this = Job(len(placement), [collective, "-b", "1M", "-e", "1M", "-n", "10"],
                   {"WEFT_TOPO_FILE": path, "WEFT_LOG": "info", "WEFT_ALGORITHM": algorithm}, master="10.7.0.1",
                   prefix=lambda rank, p=placement, b=bound: inside(p[rank]) + ["taskset", "-c", str(cpus[b[rank]])])
        before = [bytes_of(0, name) for name in ("eth0", "other0")]
        check(this.wait(60), f"near at {bound}: hangs: {this.all_errors()}")
        check(set(this.codes().values()) == {0}, f"near at {bound}: {this.codes()} {this.all_errors()}")
        grown = [bytes_of(0, name) - was for name, was in zip(("eth0", "other0"), before)]
        share = grown[1] / sum(grown)
        check(least < share < most, f"near: {this} at {bound}: eth0 and other0 carried {grown} bytes")
        for rank in range(len(placement)):
            for name in ("eth0", "other0"):
                left = f"leaves {name} to ranks" in this.err(rank)
                check(left == (expected.get(rank) == name), f"near at {bound}: rank {rank} and {name}: {this.err(rank)}")
        this.end()
    os.unlink(path)


def measured():
    """weft-topo --measure in a job over hosts: the network's figures are in the file, and jobs run with it."""
    placement, path = [0, 0, 1, 2], "/dev/shm/measured.xml"
    topo = os.path.join(BUILD, "bin", "weft-topo")
    environment = {**os.environ, "WORLD_SIZE": str(len(placement)), "MASTER_ADDR": "10.7.0.1", "MASTER_PORT": str(free_port())}
    processes = [subprocess.Popen(inside(host) + [topo, "--measure", path], env={**environment, "RANK": str(rank)}, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for rank, host in enumerate(placement)]
    said = [process.communicate(timeout=60)[0] for process in processes]
    check(all(process.returncode == 0 for process in processes), f"--measure: {said}")
    # Ranks 0 and 1, and each pair of the three hosts.
    check(len(said[0].splitlines()) == 1 + 1 + 3 and not "".join(said[1:]), f"--measure prints {said}")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    wires = [line for line in text.splitlines() if 'kind="wire"' in line]
    check(wires and all('source="measured"' in line for line in wires), f"--measure: {wires}")
    check("measured_Bps" in text, "--measure: nothing within the host")
    good_run([0, 0, 1, 2], ["all_reduce", "-b", "64K", "-e", "64K", "-n", "3"], {"WEFT_TOPO_FILE": path})
    os.unlink(path)


def version_six():
    for host in range(HOSTS):
        for name in ("eth0", "other0"):
            on_host(host, "-4", "addr", "flush", "dev", name)
    good_run([0, 0, 1, 2, 3], ["all_reduce", "-b", "8", "-e", "2M", "-f", "512", "-n", "3"], master="fd07::1")
    good_run([0, 1, 3], ["all_to_all", "-b", "64K", "-e", "64K", "-n", "3"], {"WEFT_RENDEZVOUS": "tcp://[fd07::1]:7171"})


def link_local():
    """Hosts that nobody gave an address, on two links each."""
    for host in range(HOSTS):
        for name in ("eth0", "other0"):
            for version in ("-4", "-6"):
                on_host(host, version, "addr", "flush", "dev", name, "scope", "global")
    meet = {"WEFT_RENDEZVOUS": "file:///dev/shm/link_local"}
    good_run([0, 0, 1, 2, 3], ["all_reduce", "-b", "8", "-e", "2M", "-f", "512", "-n", "3"], meet)
    good_run([3, 1], ["all_reduce", "-b", "8", "-e", "8", "-n", "3"], {**meet, "WEFT_INTERFACES": "=other0"})


holders = []
try:
    make_hosts()
    for test in (placements, killed_rank, lost_host, interfaces, measured, version_six, link_local):
        if len(sys.argv) < 2 or test.__name__ in sys.argv[1:]:
            begin = time.monotonic()
            test()
            print(f"{test.__name__}: {time.monotonic() - begin:.1f} s", flush=True)
    check_nothing_left("at the end")
finally:
    for holder in holders:
        holder.kill()
        holder.wait()
    finish()
