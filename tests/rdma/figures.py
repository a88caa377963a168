#!/usr/bin/env python3
"""Weft's verbs transport beside perftest in one boot of the machine: medians of interleaved rounds. Run by hand on a quiet
machine; the argument is the number of rounds (default 5)."""
import os
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("BUILD", "build")
ROUNDS_OF_LATENCY, SLICES = 1000, 64


def perftest(program, column, arguments):
    server = subprocess.Popen([program, "-d", "rxe1", "-F", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(20):  # the server needs a moment until it listens
            time.sleep(0.25)
            result = subprocess.run([program, "-d", "rxe0", "-F", *arguments, "10.77.0.2"], capture_output=True, text=True,
                                    timeout=60, check=False)
            for line in result.stdout.splitlines():
                words = line.split()
                if words and words[0] == arguments[arguments.index("-s") + 1] and len(words) > column:
                    return float(words[column])
            if server.poll() is not None:
                break
        return None
    except subprocess.TimeoutExpired:
        return None
    finally:
        server.kill()
        server.wait()


def weft(*arguments):
    try:
        result = subprocess.run([os.path.join(BUILD, "bin", "bench_pair"), "verbs", *arguments], capture_output=True, text=True,
                                timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return None
    return float(result.stdout) if re.fullmatch(r"[\d.]+\s*", result.stdout) else None


def inside(rounds):
    bandwidth = ["-s", "1048576", "-n", str(SLICES), "-t", "16"]
    latency = ["-s", "8", "-n", str(ROUNDS_OF_LATENCY)]
    measured = {"ib_send_lat 8 B, us": lambda: perftest("ib_send_lat", 4, latency),
                "weft 8 B, us": lambda: weft("latency", "8", str(ROUNDS_OF_LATENCY), "registered", "rxe0", "rxe1"),
                "ib_write_bw 1 MB, MB/s": lambda: perftest("ib_write_bw", 3, bandwidth),
                "weft 1 MB, MB/s": lambda: weft("bandwidth", "1M", str(SLICES), "registered", "rxe0", "rxe1"),
                "weft 1 MB staged, MB/s": lambda: weft("bandwidth", "1M", str(SLICES), "rxe0", "rxe1")}
    figures = {name: [] for name in measured}
    # Latencies more often: on a busy host either side now and then gets the processor in turns of 4 ms only.
    names = [name for name in measured if name.endswith("us")] * 3 + [name for name in measured if name.endswith("MB/s")]
    for name in names * rounds:
        figure = measured[name]()
        if figure is not None:
            figures[name].append(figure * (1.048576 if name.startswith("ib_write") else 1))  # its MB are MiB
    for name, values in figures.items():
        median = statistics.median(values) if values else float("nan")
        print(f"{name:24} {median:10.2f}   of {' '.join(f'{v:.1f}' for v in values)}")


if len(sys.argv) > 2 and sys.argv[1] == "inside":
    inside(int(sys.argv[2]))
else:
    rounds = sys.argv[1] if len(sys.argv) > 1 else "5"
    sys.exit(subprocess.run([os.path.join(HERE, "machine"), "--environment", "BUILD", "--timeout", "900", "--", "python3",
                             os.path.abspath(__file__), "inside", rounds], check=False).returncode)
