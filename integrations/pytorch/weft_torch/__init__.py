"""Weft as a backend of torch.distributed.

    import torch.distributed, weft_torch
    torch.distributed.init_process_group("weft")

or, with torch 2, init_process_group("cpu:weft,cuda:nccl"). Importing this registers the backend; all else is torch's own API.
"""
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


def _register():
    if int(torch.__version__.split(".", maxsplit=1)[0]) >= 2:
        dist.Backend.register_backend("weft", _C.create, devices=["cpu"])
    else:
        dist.Backend.register_backend("weft", _C.create)


if not hasattr(dist.Backend, "WEFT"):
    _register()
