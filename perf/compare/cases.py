"""What is compared: where ranks run (cases), what they call (cells), with which settings each library may show its best
(variants). How processes are started is launch.py's."""
import os
from collections import namedtuple

COLLECTIVES = ["all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "barrier"]
TYPES = ["f32", "bf16"]
KB, MB = 1 << 10, 1 << 20
MPI_PRELOAD = os.path.abspath(os.path.join(os.environ.get("BUILD", "build"), "lib/openmpi/libweft-mpi.so"))
IN_MEMORY = ["shm", "mpi"] # kinds of cases whose ranks share memory

Cell = namedtuple("Cell", "collective type bytes")
# hosts: the host of each rank, where there are several.
Case = namedtuple("Case", "name text kind ranks largest hosts", defaults=((),))
# largest: bytes beyond which the setting does not work. 0: no such limit.
Variant = namedtuple("Variant", "library name options environment largest", defaults=(0,))

CASES = {case.name: case for case in (
    Case("shm2", "2 ranks, shared memory", "shm", 2, 256 * MB),
    Case("shm4", "4 ranks, shared memory", "shm", 4, 16 * MB),
    Case("shm8", "8 ranks, shared memory", "shm", 8, 16 * MB),
    Case("tcp2", "2 ranks, TCP over loopback", "tcp", 2, 16 * MB),
    Case("mpi2", "2 ranks of an MPI program, with and without libweft-mpi.so", "mpi", 2, 64 * MB),
    Case("hosts4", "4 hosts at 1 Gbit/s", "hosts", 4, 16 * MB, (0, 1, 2, 3)),
    Case("hosts4x2", "4 hosts x 2 ranks at 1 Gbit/s", "hosts", 8, 16 * MB, (0, 0, 1, 1, 2, 2, 3, 3)),
)}

LIBRARIES = {"weft": "Weft", "openmpi": "Open MPI", "openmpi5": "Open MPI 5", "mpich": "MPICH", "gloo": "Gloo"}
PEERS = [name for name in LIBRARIES if name != "weft"]

MAIN_SIZES = [8, 64, 512, KB, 4 * KB, 16 * KB, 32 * KB, 64 * KB, 256 * KB, MB, 2 * MB, 4 * MB, 16 * MB, 64 * MB, 256 * MB]
SIZES = [8, 512, 4 * KB, 32 * KB, 256 * KB, 2 * MB, 16 * MB]
FEW_SIZES = [8, 4 * KB, 256 * KB, 16 * MB]
SLOW_SIZES = [8, 4 * KB, 256 * KB, 4 * MB]


def parse_size(text):
    scale = {"K": KB, "M": MB, "G": KB * MB}.get(text[-1:].upper(), 1)
    return int(text[:-1] if scale > 1 else text) * scale


def show_size(size):
    for unit, scale in (("MB", MB), ("KB", KB)):
        if size >= scale and size % scale == 0:
            return f"{size // scale} {unit}"
    return f"{size} B"


def sizes_of(case, collective, kind):
    """Between hosts and with many ranks on few cores calls take long: fewer cells there."""
    if collective == "barrier":
        return [0] if kind == "f32" else []
    slow = case.kind == "hosts" or case.ranks > 4
    if slow and collective != "all_reduce":
        return SLOW_SIZES if kind == "f32" else []
    if kind == "f32":
        return MAIN_SIZES if collective == "all_reduce" else SIZES
    return SIZES if collective == "all_reduce" and not slow else FEW_SIZES


def cells_of(case, collectives, types, sizes=None):
    """In the order they are measured: the whole row of sizes of one collective after the other."""
    cells = []
    for collective in collectives:
        for kind in types:
            chosen = sizes_of(case, collective, kind)
            if sizes is not None and collective != "barrier":
                chosen = sizes
            cells += [Cell(collective, kind, size) for size in chosen if size <= case.largest]
    return cells


def shares_hosts(case):
    return len(set(case.hosts)) < len(case.hosts)


def openmpi(library, case, crowded):
    """ob1 over the transport that the case is about, with and without coll/sm, and UCX. With more ranks than cores waiting ranks
    give up their core, as Open MPI does by itself where it knows of them: else one list of cells takes minutes."""
    if case.kind == "mpi":
        return [Variant(library, "as it comes", [], {})]
    common = ["--mca", "mpi_yield_when_idle", "1" if crowded else "0"]
    ucx = common + ["--mca", "pml", "ucx", "--mca", "pml_ucx_tls", "any", "--mca", "pml_ucx_devices", "any"]
    if case.kind == "shm":
        shared = "vader" if library == "openmpi" else "sm"
        ob1 = common + ["--mca", "pml", "ob1", "--mca", "btl", f"self,{shared}"]
        return [Variant(library, "ob1", ob1, {}),
                Variant(library, "ob1, coll sm", ob1 + ["--mca", "coll_sm_priority", "100"], {}),
                Variant(library, "ucx", ucx, {})]
    if shares_hosts(case):
        # As it comes, with the network named and nothing else: it finds shared memory by itself. UCX gets what it needs for both.
        ucx_net = {"UCX_TLS": "tcp,sm,self", "UCX_NET_DEVICES": "eth0"}
        return [Variant(library, "as it comes", ["--mca", "btl_tcp_if_include", "eth0"], {}),
                Variant(library, "ob1", common + ["--mca", "pml", "ob1", "--mca", "btl", "self,vader,tcp",
                                                  "--mca", "btl_tcp_if_include", "eth0"], {}),
                Variant(library, "ob1, yielding", ["--mca", "mpi_yield_when_idle", "1", "--mca", "pml", "ob1", "--mca",
                                                   "btl_tcp_if_include", "eth0"], {}),
                Variant(library, "ucx", ucx, ucx_net)]
    device = "lo" if case.kind == "tcp" else "eth0"
    ob1 = common + ["--mca", "pml", "ob1", "--mca", "btl", "self,tcp", "--mca", "btl_tcp_if_include", device]
    return [Variant(library, "ob1", ob1, {}), Variant(library, "ucx", ucx, {"UCX_TLS": "tcp,self", "UCX_NET_DEVICES": device})]


def mpich(case):
    if case.kind == "shm":
        gathered = {f"MPIR_CVAR_{name}_POSIX_INTRA_ALGORITHM": "release_gather" for name in ("ALLREDUCE", "BCAST", "BARRIER")}
        return [Variant("mpich", "as it comes", [], {}), Variant("mpich", "release_gather", [], gathered),
                Variant("mpich", "ucx sm", [], {"MPIR_CVAR_NOLOCAL": "1", "UCX_TLS": "sm,self"})]
    if shares_hosts(case):
        # As it comes, too, it works; hosts.py --peers measures that. Its ranks spin without end, so that it is slow on few cores.
        return [Variant("mpich", "ucx tcp and sm", [],
                        {"MPIR_CVAR_NOLOCAL": "1", "UCX_TLS": "tcp,sm,self", "UCX_NET_DEVICES": "eth0"}),
                Variant("mpich", "ucx tcp", [], {"MPIR_CVAR_NOLOCAL": "1", "UCX_TLS": "tcp,self", "UCX_NET_DEVICES": "eth0"})]
    device = "lo" if case.kind == "tcp" else "eth0"
    return [Variant("mpich", "ucx tcp", [], {"MPIR_CVAR_NOLOCAL": "1", "UCX_TLS": "tcp,self", "UCX_NET_DEVICES": device})]


def gloo(crowded):
    variants = [Variant("gloo", name, [], {}) for name in ("ring", "bcube", "halving_doubling", "ring_chunked")]
    if not crowded:
        # Polling in the calling thread wants a core for each rank, and both sides block in a write that the sockets cannot hold.
        variants += [Variant("gloo", name + "_sync", [], {}, MB) for name in ("halving_doubling", "ring_chunked")]
    return variants


def variants_of(library, case, cpus):
    crowded = case.ranks > cpus
    if library == "weft" and case.kind == "mpi": # the same program, with Weft before the MPI
        return [Variant("openmpi", "with libweft-mpi.so", ["-x", "LD_PRELOAD=" + MPI_PRELOAD], {})]
    if library == "weft":
        sockets_only = case.kind != "shm" and not shares_hosts(case)
        return [Variant("weft", "", [], {"WEFT_TRANSPORTS": "tcp"} if sockets_only else {})]
    if library == "registered":
        return [Variant("weft", "registered", [], {})]
    if library == "mpich":
        return mpich(case)
    return gloo(crowded) if library == "gloo" else openmpi(library, case, crowded)
