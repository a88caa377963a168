#!/usr/bin/env python3
# time limit: 300 s
# runs alone
# Boots the machine with two RDMA devices and runs inside.py in it; arguments: the parts of it to run (default: all).
import sys

import boot

boot.need_verbs()
boot.run_inside(270, *sys.argv[1:])
