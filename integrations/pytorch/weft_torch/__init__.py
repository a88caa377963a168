"""Weft as a backend of torch.distributed.

    import torch.distributed, weft_torch
    torch.distributed.init_process_group("weft")

or, with torch 2, init_process_group("cpu:weft,cuda:nccl"). Importing this registers the backend; all else is torch's own API.
"""
import atexit
import functools

import torch
import torch.distributed as dist

from . import _C

__version__ = _C.weft_version()
__all__ = ["abort", "describe", "registered_bytes"]


def _backend(group):
    """What runs the CPU's operations of a process group."""
    if group is None:
        group = dist.group.WORLD
    if hasattr(group, "_get_backend"):
        return group._get_backend(torch.device("cpu"))
    return group


def abort(group=None):
    """Ends every operation of the group that is under way, and every later one, with an error on all ranks. From any thread."""
    _C.abort(_backend(group))


def describe(collective, size_in_bytes, group=None):
    """Which algorithm and transports an operation ("all_reduce") of so many bytes uses, for people."""
    return _C.describe(_backend(group), collective, size_in_bytes)


def registered_bytes():
    """Bytes of gradient buckets, and of other tensors reduced again and again, that ranks on this host read in place now."""
    return _C.registered_bytes()


_torchs_monitored_barrier = dist.monitored_barrier


@functools.wraps(_torchs_monitored_barrier)
def _monitored_barrier(group=None, timeout=None, wait_all_ranks=False):
    # torch's own refuses every backend but Gloo by name, and tells who is no member of the group.
    if dist.get_rank(group) < 0 or not _C.is_weft(_backend(group)):
        return _torchs_monitored_barrier(group, timeout, wait_all_ranks)
    if timeout is None:
        timeout = dist.distributed_c10d.default_pg_timeout
    return _backend(group).monitored_barrier(timeout, wait_all_ranks)


def _register():
    if int(torch.__version__.split(".", maxsplit=1)[0]) >= 2:
        dist.Backend.register_backend("weft", _C.create, devices=["cpu"])
    else:
        dist.Backend.register_backend("weft", _C.create)


# What is under way when the program ends, others may wait for: it gets so many seconds.
atexit.register(_C.leave, 2.0)
if not hasattr(dist.Backend, "WEFT"):
    _register()
    dist.monitored_barrier = dist.distributed_c10d.monitored_barrier = _monitored_barrier
