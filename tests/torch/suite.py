#!/usr/bin/env python3
# PyTorch's own suite of torch.distributed (the file that Debian's python3-torch ships) on Weft, with every gate opened that is
# closed because of the backend's name; or, for comparison, on Gloo as it is. Each test runs in three processes.
# Usage: suite.py [--backend weft|gloo] [--shards N] [-v] [TEST...]        Exit code 0: nothing failed that should not.
# time limit: 300 s
import argparse
import collections
import json
import multiprocessing.pool
import os
import re
import subprocess
import sys
import tempfile
import time
import types
import unittest

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(TOP, "tests", "multi", "support"))
import jobs  # noqa: E402
import torch_ranks  # noqa: E402

SUITE = "torch.testing._internal.distributed.distributed_test"
# Ranks of a test. The six that ask for four need a GPU for each.
WORLD = 3

# Tests that cannot pass here, with the reason; Gloo fails in them just so. One that passes after all is told.
SHARDED = "they import torch.distributed._shard, which torch 1.13 has in a form that Python 3.11 refuses; Gloo fails the same"
EXPECTED = dict.fromkeys((
    "test_DistributedDataParallelCPU", "test_DistributedDataParallelCPU_grad_is_view", "test_accumulate_gradients_no_sync",
    "test_accumulate_gradients_no_sync_allreduce_hook", "test_accumulate_gradients_no_sync_allreduce_with_then_hook",
    "test_accumulate_gradients_no_sync_grad_is_view", "test_ddp_create_graph", "test_ddp_logging_data_cpu",
    "test_static_graph_api_cpu"), SHARDED)


# ---- the suite as a module ------------------------------------------------------------------------------

def stand_in_for_expecttest():
    """Debian 12 has no expecttest; torch's suites need its class and one method of it."""
    module = types.ModuleType("expecttest")

    class TestCase(unittest.TestCase):
        longMessage = True

        def assertExpectedInline(self, actual, expect, skip=0):
            self.assertEqual(expect, actual)
    module.TestCase, module.ACCEPT = TestCase, False
    sys.modules.setdefault("expecttest", module)


def open_gates(source):
    """The gates by name: what Gloo or MPI may do on the CPU, Weft may too."""
    source = re.sub(r'BACKEND (!=|==) "(gloo|mpi)"', lambda m: f'BACKEND {"not in" if m[1] == "!=" else "in"} ("{m[2]}", "weft")',
                    source)
    return source.replace('require_backend({"gloo"})', 'require_backend({"gloo", "weft"})')


def load(backend):
    """The module with the tests."""
    stand_in_for_expecttest()
    import importlib.util
    from torch.testing._internal import common_distributed
    if backend == "weft":
        import weft_torch  # noqa: F401
        for feature in ("ddp", "subgroup", "plugin", "gpu", "cuda"):
            common_distributed.DistTestCases.backend_feature[feature].add("weft")
    spec = importlib.util.find_spec(SUITE)
    with open(spec.origin, encoding="utf-8") as file:
        source = file.read()
    module = types.ModuleType(SUITE)
    module.__file__ = spec.origin
    sys.modules[SUITE] = module
    exec(compile(open_gates(source) if backend == "weft" else source, spec.origin, "exec"), module.__dict__)
    if backend == "weft":
        for supported in (module.PROFILING_SUPPORTED_BACKENDS, module.SEND_RECV_PROFILING_SUPPORTED_BACKENDS):
            supported.append("weft")
    return module


def cases(module):
    """Forked ranks: they need not import torch again."""
    class TestDistBackendWithFork(module.TestDistBackend, module.DistributedTest._DistTestBase):
        def setUp(self):
            super().setUp()
            self._start_processes(multiprocessing.get_context("fork").Process)
    return TestDistBackendWithFork


# ---- one shard ------------------------------------------------------------------------------------------

class Told(unittest.TestResult):
    """A line of JSON for each test."""

    def tell(self, test, outcome, why=""):
        print("RESULT " + json.dumps([test.id().rsplit(".", 1)[1], outcome, why[-4000:], time.monotonic() - self.begun]),
              flush=True)

    def startTest(self, test):
        self.begun = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        self.tell(test, "ok")

    def addSkip(self, test, reason):
        self.begun = getattr(self, "begun", time.monotonic())
        self.tell(test, "skip", reason)

    def addFailure(self, test, error):
        self.tell(test, "fail", self._exc_info_to_string(error, test))

    addError = addFailure


def shard(backend, world, names, number, shards):
    os.environ.update(BACKEND=backend, WORLD_SIZE=str(world))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TEMP_DIR"] = folder
        tempfile.tempdir = folder  # the suite leaves the files of its stores behind
        module = load(backend)
        case = cases(module)
        chosen = [n for n in unittest.TestLoader().getTestCaseNames(case) if not names or n in names]
        unittest.TestSuite(case(name) for name in chosen[number::shards]).run(Told())


# ---- all of them ----------------------------------------------------------------------------------------

def start(options, world, names, number):
    command = [torch_ranks.PYTHON, os.path.abspath(__file__), "--backend", options.backend, "--shards", str(options.shards),
               "--shard", str(number), "--world", str(world), *names]
    # Only loopback, whatever the machine's name resolves to.
    return subprocess.Popen(command, env=torch_ranks.environment(GLOO_SOCKET_IFNAME="lo"), stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, errors="replace", preexec_fn=jobs.die_with_parent)


def outcomes(process):
    """{test: (outcome, why, seconds)} and what else was said."""
    results, rest = {}, []
    for line in process.stdout:
        if line.startswith("RESULT "):
            name, outcome, why, seconds = json.loads(line[7:])
            results[name] = (outcome, why, seconds)
        else:
            rest.append(line)
    if process.wait() != 0:
        print("".join(rest[-60:]))
        sys.exit(f"a part of the suite ended with {process.returncode}")
    return results


def run(options, world, names):
    processes = [start(options, world, names, number) for number in range(options.shards)]
    with multiprocessing.pool.ThreadPool(len(processes)) as pool:
        return {name: result for part in pool.map(outcomes, processes) for name, result in part.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="weft")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--shard", type=int)
    parser.add_argument("--world", type=int, default=WORLD)
    parser.add_argument("names", nargs="*", help="tests to run (default: all)")
    parser.add_argument("-v", action="store_true")
    options = parser.parse_args()
    if options.shard is not None:
        return shard(options.backend, options.world, options.names, options.shard, options.shards)
    torch_ranks.skip_without_torch()
    version = subprocess.run([torch_ranks.PYTHON, "-c", "import torch; print(torch.__version__)"], stdout=subprocess.PIPE,
                             text=True, check=True).stdout.strip()
    if not version.startswith("1.13"):
        jobs.skip(f"torch {version}: what this suite can do here is listed for torch 1.13")
    results = run(options, options.world, options.names)
    reasons = collections.Counter(why.strip().splitlines()[-1] for outcome, why, _ in results.values() if outcome == "skip")
    for why, times in reasons.most_common():
        print(f"skipped {times}: {why}")
    count = {word: sum(r[0] == word for r in results.values()) for word in ("ok", "fail", "skip")}
    expected = EXPECTED if options.backend == "weft" else {}
    problems = 0
    for name, (outcome, why, seconds) in sorted(results.items()):
        if outcome == "fail" and name in expected:
            print(f"expected to fail: {name}: {expected[name]}")
        elif outcome == "fail":
            problems += 1
            print(f"FAIL {name} ({seconds:.1f} s)\n{why}")
        elif outcome == "ok" and name in expected:
            print(f"passes although it is listed as one that fails: {name}")
        elif options.v:
            print(f"{outcome} {name} ({seconds:.1f} s) {why.strip().splitlines()[-1] if why.strip() else ''}")
    print(f"PyTorch's distributed_test.py on {options.backend}: {count['ok']} ok, {count['fail']} failed "
          f"({problems} unexpectedly), {count['skip']} skipped")
    return 1 if problems or not count["ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
