#!/usr/bin/env python3
# time limit: 450 s
# runs alone
# Boots the machine with two RDMA devices and runs the part of inside.py that is about the transport ucx: rc and ud.
import os
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
os.environ.setdefault("BUILD", "build")
library = os.path.join(os.environ["BUILD"], "lib", "weft", "libweft-transport-ucx.so")
if any(name in os.environ["BUILD"] for name in ("asan", "tsan")):
    print("UCX's memory hooks and a sanitizer's do not go together")
    sys.exit(77)
if not os.path.exists(library):
    print("built without UCX (libucx-dev)")
    sys.exit(77)
result = subprocess.run([os.path.join(here, "machine"), "--verbose", "--timeout", "420", "--environment", "BUILD", "--",
                         "python3", os.path.join(here, "inside.py"), "ucx"], check=False)
sys.exit(result.returncode)
