"""Finds and loads libweft.so and declares its functions for ctypes; errors become exceptions here. Buffers, communicators
and requests are in the other files. Calls into the library do not hold the GIL (ctypes.CDLL releases it)."""
import ctypes
import os
import re
import sys

SONAME = "libweft.so.0"


class Error(RuntimeError):
    """A call of Weft failed. status is the name of the C status ("WEFT_ERR_PEER"), detail names value, place and remedy."""

    status = "WEFT_ERR_INTERNAL"

    def __init__(self, detail, status=None, text=""):
        super().__init__(": ".join(part for part in (text, detail) if part))
        self.detail = detail
        if status:
            self.status = status


class InvalidArgument(Error, ValueError):
    """An argument that cannot be: also what this package finds itself, as a read-only array that is to be written."""

    status = "WEFT_ERR_INVALID"


class TimedOut(Error, TimeoutError):
    """The time limit of a call or of the creation of a communicator is over."""


class PeerFailed(Error, ConnectionError):
    """A rank died or left; the detail says which."""


class Mismatch(Error):
    """Ranks do not agree in what they called; the detail names both sides."""


class Aborted(Error):
    """The communicator was aborted."""


class Unsupported(Error, NotImplementedError):
    """Not possible here."""


# Names and numbers as in weft.h (WEFT_STATUS_LIST, WEFT_TYPE_LIST, WEFT_OP_LIST); a test compares them.
STATUS = ["WEFT_OK", "WEFT_IN_PROGRESS", "WEFT_ERR_INVALID", "WEFT_ERR_MEMORY", "WEFT_ERR_SYSTEM", "WEFT_ERR_TIMEOUT",
          "WEFT_ERR_PEER", "WEFT_ERR_MISMATCH", "WEFT_ERR_ABORTED", "WEFT_ERR_UNSUPPORTED", "WEFT_ERR_TRUNCATED",
          "WEFT_ERR_VERSION", "WEFT_ERR_PARSE", "WEFT_ERR_USAGE", "WEFT_ERR_INTERNAL"]
EXCEPTIONS = {"WEFT_ERR_INVALID": InvalidArgument, "WEFT_ERR_TIMEOUT": TimedOut, "WEFT_ERR_PEER": PeerFailed,
              "WEFT_ERR_MISMATCH": Mismatch, "WEFT_ERR_ABORTED": Aborted, "WEFT_ERR_UNSUPPORTED": Unsupported}
TYPES = {name: (number, size) for number, (name, size) in enumerate([
    ("i8", 1), ("u8", 1), ("i16", 2), ("u16", 2), ("i32", 4), ("u32", 4), ("i64", 8), ("u64", 8), ("f16", 2), ("bf16", 2),
    ("f32", 4), ("f64", 8), ("f8e4m3", 1), ("f8e5m2", 1), ("bool", 1)])}
OPS = {name: number for number, name in enumerate(["sum", "prod", "min", "max", "avg", "band", "bor", "bxor"])}

UNIQUE_ID_BYTES = 128


class Config(ctypes.Structure):
    """struct weft_config."""

    _fields_ = [("size", ctypes.c_size_t), ("timeout_ms", ctypes.c_int64), ("transports", ctypes.c_char_p),
                ("algorithm", ctypes.c_char_p), ("interfaces", ctypes.c_char_p), ("port_range", ctypes.c_char_p),
                ("host_id", ctypes.c_char_p), ("tuning_file", ctypes.c_char_p), ("lanes", ctypes.c_int),
                ("sockets", ctypes.c_int), ("slice_bytes", ctypes.c_size_t)]


class RecvInfo(ctypes.Structure):
    """struct weft_recv_info: what a receive got."""

    _fields_ = [("source", ctypes.c_int), ("tag", ctypes.c_int), ("bytes", ctypes.c_size_t)]


AllGatherFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
OpFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int,
                              ctypes.c_void_p)

# Arguments of each function: p pointer, z size_t, i int, l int64, s text. The collectives below end in the request.
SIGNATURES = {
    "comm_create_id": "piipp", "comm_create_url": "siipp", "comm_create_env": "pp", "comm_create_allgather": "ppiipp",
    "comm_split": "piipp", "comm_shrink": "ppp", "comm_set_timeout": "pl", "comm_destroy": "p", "comm_abort": "p",
    "comm_async_error": "pp", "get_unique_id": "p", "test": "pp", "wait_any_for": "pilp",
    "start": "p", "request_free": "p", "request_set_timeout": "pl", "progress": "", "group_start": "", "group_end": "p",
    "mem_alloc": "zp", "mem_free": "p", "mem_register": "pz", "mem_deregister": "p", "op_create": "ppip",
    "op_create_premul_sum": "pip", "op_free": "i",
}
COLLECTIVES = {
    "all_reduce": "pppzii", "all_gather": "pppzi", "all_gather_v": "ppzpppi", "reduce_scatter": "pppzii",
    "reduce_scatter_v": "ppppii", "broadcast": "pppzii", "reduce": "pppziii", "gather": "pppzii",
    "gather_v": "ppzpppii", "scatter": "pppzii", "scatter_v": "pppppzii", "all_to_all": "pppzi",
    "all_to_all_v": "ppppppp" + "i", "barrier": "p", "send": "ppziii", "recv": "ppziiip",
}
KINDS = {"p": ctypes.c_void_p, "z": ctypes.c_size_t, "i": ctypes.c_int, "l": ctypes.c_int64, "s": ctypes.c_char_p}


def candidates():
    """Where the library may be, in order: WEFT_LIBRARY, in this package (make python puts a link there), the prefix of this
    Python, and where the dynamic linker looks."""
    if os.environ.get("WEFT_LIBRARY"):
        return [os.environ["WEFT_LIBRARY"]]
    here = os.path.dirname(os.path.abspath(__file__))
    places = [here, os.path.join(sys.prefix, "lib")]
    found = [os.path.join(place, SONAME) for place in places if os.path.exists(os.path.join(place, SONAME))]
    return found + [SONAME, os.path.join("/usr/local/lib", SONAME)]


def load():
    reasons = []
    for path in candidates():
        try:
            library = ctypes.CDLL(path)
            break
        except OSError as error:
            reasons.append(str(error))
    else:
        raise ImportError(f"{SONAME} cannot be loaded ({'; '.join(reasons)}): build it (make python), install it (make "
                          "install), or set WEFT_LIBRARY to its path")
    for name, kinds in SIGNATURES.items():
        declare(library, name, kinds, ctypes.c_int)
    for name, kinds in COLLECTIVES.items():
        declare(library, name, kinds + "p", ctypes.c_int)
        declare(library, name + "_init", kinds + "p", ctypes.c_int)
    for name in ("comm_rank", "comm_size", "comm_local_rank", "comm_local_size", "comm_hosts"):
        declare(library, name, "p", ctypes.c_int)
    for name, kinds in (("last_error", ""), ("version", ""), ("build_info", ""), ("status_text", "i")):
        declare(library, name, kinds, ctypes.c_char_p)
    declare(library, "comm_describe", "pszpz", None)
    declare(library, "comm_dump", "pp", None)
    declare(library, "settings_print", "p", None)
    return library


def declare(library, name, kinds, result):
    function = getattr(library, "weft_" + name)
    function.argtypes = [KINDS[kind] for kind in kinds]
    function.restype = result


lib = load()


def failure(number):
    """The exception for a failed status, with the detail that the library kept for this thread."""
    status = STATUS[number] if 0 <= number < len(STATUS) else f"status {number}"
    text = lib.weft_status_text(number).decode()
    detail = lib.weft_last_error().decode(errors="replace")
    return EXCEPTIONS.get(status, Error)(detail, status, text)


def check(number):
    if number:
        raise failure(number)


def printed(print_to):
    """What print_to(FILE *) prints, as text."""
    libc = ctypes.CDLL(None)
    libc.open_memstream.restype = ctypes.c_void_p
    libc.fclose.argtypes = [ctypes.c_void_p]
    libc.free.argtypes = [ctypes.c_void_p]
    text, size = ctypes.c_void_p(), ctypes.c_size_t()
    stream = libc.open_memstream(ctypes.byref(text), ctypes.byref(size))
    if not stream:
        raise MemoryError("open_memstream failed")
    print_to(stream)
    libc.fclose(stream)
    try:
        return ctypes.string_at(text.value, size.value).decode(errors="replace")
    finally:
        libc.free(text)


def version():
    """The version of the library that runs, as "0.1.0"."""
    return re.split(r"\s", lib.weft_version().decode())[0]


def build_info():
    """What the library was built with."""
    return lib.weft_build_info().decode()


def settings():
    """Every WEFT_* variable with type, default and help, as text."""
    return printed(lib.weft_settings_print)
