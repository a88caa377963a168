#!/usr/bin/env python3
"""Weft's transports beside ucx_perftest (Debian: ucx-utils): medians of interleaved rounds between two processes on CPUs of
their own. By hand on a quiet machine; arguments: what UCX_TLS shall be (default tcp), the number of rounds (default 3).
With tcp, Weft's own TCP is a further column, and both sides want errors reported, which changes what UCX does with large
messages.
SIZES: other sizes, in bytes."""
import os
import re
import statistics
import subprocess
import sys
import time

BUILD = os.environ.get("BUILD", "build")
TLS = sys.argv[1] if len(sys.argv) > 1 else "tcp"
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 3
SIZES = [int(size) for size in os.environ.get("SIZES", "8 512 4096 32768 262144 1048576 4194304 16777216").split()]
PORT = 13999
os.environ.update(UCX_TLS=TLS, UCX_WARN_UNUSED_ENV_VARS="n")


def count(kind, size):
    return max(10, min(20000 if kind == "latency" else 50000, (200 << 20) // size if kind == "latency" else (1 << 30) // size))


def perftest(kind, size):
    """Microseconds of half a round trip (median), or MB/s."""
    global PORT
    PORT += 1
    command = ["ucx_perftest", "-t", "ucp_am_lat" if kind == "latency" else "ucp_am_bw", "-s", str(size), "-n",
               str(count(kind, size)), "-w", "20", "-f", "-p", str(PORT), *(["-e"] if TLS == "tcp" else [])]
    server = subprocess.Popen([*command, "-c", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(20):  # the server needs a moment until it listens
            time.sleep(0.1)
            result = subprocess.run([*command, "-c", "0", "127.0.0.1"], capture_output=True, text=True, timeout=60, check=False)
            final = re.search(r"^\s+\d+\s+([\d.]+)\s+[\d.]+\s+[\d.]+\s+[\d.]+\s+([\d.]+)\s", result.stdout, re.MULTILINE)
            if final:
                return float(final.group(1)) if kind == "latency" else float(final.group(2)) * 1.048576  # its MB are MiB
        return None
    finally:
        server.kill()
        server.wait()


def weft(transport, kind, size):
    result = subprocess.run([os.path.join(BUILD, "bin", "bench_pair"), transport, kind, str(size), str(count(kind, size)),
                             "untouched"], capture_output=True, text=True, timeout=100, check=False,
                            env={**os.environ, "WEFT_PLUGIN_PATH": os.path.join(BUILD, "lib", "weft")})
    if result.returncode:
        sys.exit(f"{transport}, {kind}, {size}: {result.stderr}")
    return float(result.stdout)


ways = {"ucx_perftest": perftest, "weft ucx": lambda kind, size: weft("ucx", kind, size)}
if TLS == "tcp":
    ways["weft tcp"] = lambda kind, size: weft("tcp", kind, size)
figures = {}
for _ in range(ROUNDS):
    for kind in ("latency", "bandwidth"):
        for size in SIZES:
            for name, way in ways.items():
                figure = way(kind, size)
                if figure is not None:
                    figures.setdefault((kind, size, name), []).append(figure)
for kind, unit in (("latency", "half a round trip, us"), ("bandwidth", "MB/s")):
    print(f"# UCX_TLS={TLS}, {unit}; medians of {ROUNDS}, and what they are of ucx_perftest's")
    print("bytes".rjust(10) + "".join(name.rjust(20) for name in ways))
    for size in SIZES:
        medians = {name: statistics.median(figures.get((kind, size, name), [float("nan")])) for name in ways}
        base = medians["ucx_perftest"]
        print(f"{size:10}" + "".join(f"{value:12.2f}{value / base * 100:6.0f} %" for value in medians.values()))
