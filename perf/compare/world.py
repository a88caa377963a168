"""Hosts on this machine: network namespaces, each with a name and a /dev/shm of its own and with a limited rate to a bridge and
from it, or to several, one per interface. A process holds each open, so that they go with this program. Needs root."""
import os
import subprocess
import sys
import tempfile

import launch

RATE = "1gbit"


class Impossible(Exception):
    """Why hosts cannot be made here."""


def command(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Impossible(f"{' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")


class Hosts:
    """A place to launch at: rank r runs on host placement[r]; rates are those of eth0, eth1 and so on."""
    interface = "eth0"
    # A launcher believes that each host has CPUs of its own.
    environment = {"COMPARE_ONE_MACHINE": "1"}

    def __init__(self, placement, rates=(RATE,)):
        self.placement, self.rates = placement, rates
        self.count = max(placement) + 1
        self.addresses = [f"10.9.0.{host + 1}" for host in range(self.count)]
        if len(rates) > 1:
            self.interface = "eth"
        self.holders = []
        self.folder = tempfile.mkdtemp(prefix="compare-hosts-")
        try:
            self.make()
        except BaseException:
            self.close()
            raise

    def make(self):
        if os.geteuid() != 0:
            raise Impossible("network namespaces need root")
        self.write_files()
        self.hub = self.hold("hub", [])
        for net in range(len(self.rates)):
            self.at(self.hub, "ip", "link", "add", f"lan{net}", "type", "bridge")
            self.at(self.hub, "ip", "link", "set", f"lan{net}", "up")
        self.at(self.hub, "ip", "link", "set", "lo", "up")
        for host in range(self.count):
            self.add(host)

    def write_files(self):
        """Names for /etc/hosts, and the agent that mpirun starts its daemons by: `agent ADDRESS command...`."""
        with open(os.path.join(self.folder, "hosts"), "w", encoding="utf-8") as file:
            file.write("127.0.0.1 localhost\n" + "".join(f"{a} h{i}\n" for i, a in enumerate(self.addresses)))
        self.agent = os.path.join(self.folder, "agent")

    def write_agent(self):
        with open(self.agent, "w", encoding="utf-8") as file:
            file.write("#!/bin/bash\n# Runs a command on the host of that address or name.\n"
                       "while [ \"${1#-}\" != \"$1\" ]; do shift; done\nhost=$1; shift\ncase $host in\n")
            for host, address in enumerate(self.addresses):
                file.write(f"{address}|h{host}) exec {' '.join(self.on(host))} /bin/sh -c \"$*\" ;;\n")
            file.write("esac\necho \"no such host: $host\" >&2\nexit 1\n")
        os.chmod(self.agent, 0o755)

    def hold(self, name, mounts):
        script = "; ".join(["set -e", f"hostname {name}", *mounts, "ip link set lo up", "echo", "exec sleep 86400"])
        process = subprocess.Popen(["unshare", "--net", "--uts", "--mount", "--ipc", "sh", "-c", script], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, preexec_fn=launch.die_with_parent)
        self.holders.append(process)
        if process.stdout.readline() != "\n":
            raise Impossible(f"host {name}: {process.stderr.read().strip()}")
        return process

    def at(self, process, *arguments):
        command("nsenter", "-t", str(process.pid), "--net", *arguments)

    def add(self, host):
        mounts = ["mount -t tmpfs none /dev/shm", f"mount --bind {self.folder}/hosts /etc/hosts"]
        holder = self.hold(f"h{host}", mounts)
        for net, rate in enumerate(self.rates):
            self.connect(holder, host, net, rate)
        if host == self.count - 1:
            self.write_agent()

    def connect(self, holder, host, net, rate):
        port, device = f"port{host}.{net}", f"eth{net}"
        self.at(self.hub, "ip", "link", "add", port, "type", "veth", "peer", "name", device, "netns", str(holder.pid))
        self.at(self.hub, "ip", "link", "set", port, "master", f"lan{net}", "up")
        self.at(holder, "ip", "addr", "add", f"10.9.{net}.{host + 1}/24", "dev", device)
        self.at(holder, "ip", "link", "set", device, "up")
        # As of a switch: a buffer of some hundred KB per port. Both ways are limited, as a cable's are.
        for process, name in ((holder, device), (self.hub, port)):
            self.at(process, "tc", "qdisc", "add", "dev", name, "root", "tbf", "rate", rate, "burst", "128kb", "limit", "1mb")

    def on(self, host):
        """What runs a command on that host."""
        return ["nsenter", "-t", str(self.holders[host + 1].pid), "--net", "--uts", "--mount", "--ipc"]

    def prefix(self, rank):
        """What runs a command on the host of that rank."""
        return self.on(self.placement[rank])

    def ranks_of(self, host):
        return self.placement.count(host)

    def openmpi(self):
        # A session folder per host, as they share this machine's /tmp.
        return ["--mca", "plm_rsh_agent", self.agent, "--mca", "oob_tcp_if_include", "eth0", "--mca", "plm_rsh_no_tree_spawn",
                "1", "-H", ",".join(f"{a}:{self.ranks_of(host)}" for host, a in enumerate(self.addresses))]

    def mpich(self):
        hosts = ",".join(f"{a}:{self.ranks_of(host)}" for host, a in enumerate(self.addresses))
        return ["-launcher", "ssh", "-launcher-exec", self.agent, "-iface", "eth0", "-hosts", hosts]

    def close(self):
        launch.end(self.holders)
        for name in ("hosts", "agent"):
            try:
                os.unlink(os.path.join(self.folder, name))
            except FileNotFoundError:
                pass
        try:
            os.rmdir(self.folder)
        except OSError as error:
            print(error, file=sys.stderr)
