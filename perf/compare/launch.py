"""Starts one library's ranks for one list of cells, waits for them, reads what they wrote. Where they run (this host, four
namespaces) is told by the place; what is measured is cases.py's."""
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time

import ports
import ratios

DEBIAN13 = os.path.join(os.path.dirname(os.path.abspath(__file__)), "debian13")


def die_with_parent():
    """In the child: a group of its own, so that it can be ended with all it starts, and gone when we are."""
    os.setsid()
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Here:
    """All ranks on this host."""
    addresses = None
    interface = "lo"
    environment = {}

    def prefix(self, rank):
        return []

    def openmpi(self):
        return []

    def mpich(self):
        return []

    def close(self):
        pass


class Outcome:
    """What one launch gave: times[cell key] in us, other lines by their first word, and why it ended early ("" if it did not)."""

    def __init__(self):
        self.times, self.lines, self.wrong, self.problem = {}, {}, [], ""


def commands(variant, case, place, program, arguments, meeting):
    """[(command, environment)], one for a launcher that starts all ranks, else one per rank."""
    quiet = {"OMPI_MCA_btl_base_warn_component_unused": "0", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    if variant.library.startswith("openmpi"):
        launcher = ["mpirun.openmpi"]
        if variant.library == "openmpi5":
            launcher = [DEBIAN13, "run", os.environ.get("COMPARE_DEBIAN13_FOLDER", ""), os.path.dirname(program), *launcher]
        crowded = case.ranks > len(os.sched_getaffinity(0))
        bind = ["--bind-to", "none"] if crowded or place.addresses else ["--bind-to", "core"]
        return [(place.prefix(0) + [*launcher, "--oversubscribe", *bind, "-np", str(case.ranks), *place.openmpi(),
                                    *variant.options, program, *arguments], {**quiet, **variant.environment})]
    if variant.library == "mpich":
        return [(place.prefix(0) + ["mpiexec.mpich", "-np", str(case.ranks), *place.mpich(), *variant.options,
                                    program, *arguments], variant.environment)]
    if variant.name:
        arguments = [*arguments, "--variant", variant.name]
    common = {"WORLD_SIZE": str(case.ranks), "MASTER_ADDR": place.addresses[0] if place.addresses else "127.0.0.1",
              "MASTER_PORT": str(ports.free_port()), "COMPARE_STORE": meeting, "COMPARE_INTERFACE": place.interface,
              "WEFT_INTERFACES": place.interface, **variant.environment}
    if place.addresses is None:
        return [([os.path.join(os.path.dirname(program), "compare-spawn"), str(case.ranks), program, *arguments], common)]
    return [(place.prefix(rank) + [program, *arguments], {**common, "RANK": str(rank)}) for rank in range(case.ranks)]


def end(processes):
    """First asks (a launcher then ends its ranks), then kills the group of each."""
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        for process in processes:
            if process.poll() is None:
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    pass
        for process in processes:
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                continue


def wait(processes, limit):
    """'' or why it was no success. Ranks that do not go on when one has failed are ended soon."""
    until, failed = time.monotonic() + limit, []
    while any(p.poll() is None for p in processes):
        if not failed and any(p.poll() not in (None, 0) for p in processes):
            failed = [p.returncode for p in processes if p.returncode not in (None, 0)]
            until = min(until, time.monotonic() + 5)
        if time.monotonic() > until:
            end(processes)
            return f"exit codes {failed}" if failed else f"did not end within {limit:.0f} s"
        time.sleep(0.01)
    codes = [p.returncode for p in processes]
    return "" if set(codes) == {0} else f"exit codes {codes}"


def read_lines(folder, ranks):
    lines = []
    for rank in range(ranks):
        try:
            with open(os.path.join(folder, f"rank.{rank}"), encoding="utf-8") as file:
                lines.append([line.split() for line in file])
        except OSError:
            lines.append([])
    return lines


def collect(lines, outcome):
    """Cells that every rank has finished; a last line that was cut off is left out."""
    cells = []
    for rank, words in enumerate(lines):
        mine = {}
        for line in words:
            if not line:
                continue
            if line[0] == "cell" and len(line) > 5:
                mine[" ".join(line[1:4])] = [float(word) for word in line[5:]]
            elif line[0] == "wrong":
                outcome.wrong.append((rank, " ".join(line[1:])))
            else:
                outcome.lines.setdefault(line[0], []).append((rank, line[1:]))
        cells.append(mine)
    for key in cells[0] if cells else []:
        if all(key in mine for mine in cells):
            outcome.times[key] = ratios.slowest_rank([mine[key] for mine in cells]) / 1000


def run(variant, case, place, programs, cells, ms, mode="cells", limit=150):
    outcome = Outcome()
    folder = tempfile.mkdtemp(prefix="compare-", dir=programs)
    try:
        meeting = os.path.join(folder, "meeting")
        os.mkdir(meeting)
        arguments = ["--out", os.path.join(folder, "rank"), "--ms", str(ms), "--mode", mode,
                     "--cells", ",".join(f"{c.collective}:{c.type}:{c.bytes}" for c in cells)]
        program = os.path.join(programs, "compare-" + variant.library)
        with open(os.path.join(folder, "said"), "w+", encoding="utf-8", errors="replace") as said:
            processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, preexec_fn=die_with_parent,
                                          env={**os.environ, **place.environment, **environment})
                         for command, environment in commands(variant, case, place, program, arguments, meeting)]
            try:
                outcome.problem = wait(processes, limit)
            except BaseException:
                end(processes)
                raise
            said.seek(0)
            text = said.read().strip()
        if outcome.problem:
            told = [line for line in text.splitlines() if any(c.isalnum() for c in line)]
            outcome.problem += ": " + told[0].strip()[:200] if told else ""
            if os.environ.get("COMPARE_VERBOSE"):
                print(text, flush=True)
        collect(read_lines(folder, case.ranks), outcome)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome
