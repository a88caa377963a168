#!/usr/bin/env python3
# time limit: 300 s
# runs alone
# Boots the machine with two RDMA devices and runs inside.py in it; arguments: the parts of it to run (default: all).
import os
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
os.environ.setdefault("BUILD", "build")
test = os.path.join(os.environ["BUILD"], "tests", "conformance", "test_verbs")
if not os.path.exists(test):
    print(f"{test} is not there: run make tests")
    sys.exit(77)
if subprocess.run([test, "present"], stdout=subprocess.DEVNULL, check=False).returncode == 77:
    print("verbs is not in this build, for want of libibverbs-dev")
    sys.exit(77)
result = subprocess.run([os.path.join(here, "machine"), "--verbose", "--timeout", "270", "--environment", "BUILD", "--",
                         "python3", os.path.join(here, "inside.py"), *sys.argv[1:]], check=False)
sys.exit(result.returncode)
