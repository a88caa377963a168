#!/usr/bin/env python3
# time limit: 450 s
# runs alone
# Boots the machine with two RDMA devices and runs the part of inside.py that is about the transport ucx: rc and ud.
import os

import boot

if any(name in boot.BUILD for name in ("asan", "tsan")):
    boot.skip("UCX's memory hooks and a sanitizer's do not go together")
if not os.path.exists(os.path.join(boot.BUILD, "lib", "weft", "libweft-transport-ucx.so")):
    boot.skip("built without UCX (libucx-dev)")
boot.run_inside(420, "ucx")
