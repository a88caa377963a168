"""Weft: collective communication on host memory, from Python.

    import numpy, weft
    with weft.Communicator.from_env() as comm:      # under mpirun, srun or torchrun; alone it is one rank
        x = numpy.full(1000, comm.rank, "f4")
        comm.all_reduce(x)                          # in place
        request = comm.all_reduce(x, wait=False)    # ... and with a request
        request.wait()

No compiler is needed: the package calls libweft.so by ctypes. Anything with the buffer protocol can be sent; numpy is not
required. Failed calls raise weft.Error or one of its subclasses."""
from ._buffers import Registration, alloc, register
from ._communicator import ANY_SOURCE, ANY_TAG, UNDEFINED, Communicator, unique_id
from ._library import (Aborted, Error, InvalidArgument, Mismatch, PeerFailed, TimedOut, Unsupported, build_info, settings,
                       version)
from ._requests import (Group, Operation, Received, Request, group, operation, premultiplied_sum, progress, wait_all,
                        wait_any)

__version__ = version()
__all__ = ["ANY_SOURCE", "ANY_TAG", "UNDEFINED", "Aborted", "Communicator", "Error", "Group", "InvalidArgument", "Mismatch",
           "Operation", "PeerFailed", "Received", "Registration", "Request", "TimedOut", "Unsupported", "alloc", "build_info",
           "group", "operation", "premultiplied_sum", "progress", "register", "settings", "unique_id", "version", "wait_all",
           "wait_any"]
