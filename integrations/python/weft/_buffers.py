"""From Python objects to (address, count, type): anything with the buffer protocol (numpy arrays, bytes, bytearray, array,
memoryview, ctypes arrays). Refuses with a reason what the library could not take: strided, read-only or of a type that Weft
does not know."""
import ctypes
import sys
import weakref

from ._library import TYPES, InvalidArgument, Unsupported, check, lib


class PyBuffer(ctypes.Structure):
    """Py_buffer of the C API; ctypes itself only gives addresses of writable buffers."""

    _fields_ = [("buf", ctypes.c_void_p), ("obj", ctypes.py_object), ("len", ctypes.c_ssize_t),
                ("itemsize", ctypes.c_ssize_t), ("readonly", ctypes.c_int), ("ndim", ctypes.c_int),
                ("format", ctypes.c_char_p), ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p),
                ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p)]


get_buffer = ctypes.pythonapi.PyObject_GetBuffer
get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(PyBuffer), ctypes.c_int]
get_buffer.restype = ctypes.c_int
release_buffer = ctypes.pythonapi.PyBuffer_Release
release_buffer.argtypes = [ctypes.POINTER(PyBuffer)]
release_buffer.restype = None

SIGNED, UNSIGNED = "bhilqn", "BHILQN"
# Addresses of empty buffers: two, because equal ones mean "in place".
EMPTY = (ctypes.c_char * 2)()
FLOATS = {"e": "f16", "f": "f32", "d": "f64"}


class Buffer:
    """A buffer while Weft uses it: address, count, type, and the view that keeps the object's memory in place."""

    __slots__ = ("address", "count", "type", "bytes", "complex", "view")

    def __init__(self, thing, name, writable, type_name=None):
        try:
            view = memoryview(thing)
        except (TypeError, ValueError, BufferError) as error:
            dtype = f" of {thing.dtype}" if hasattr(thing, "dtype") else ""
            raise InvalidArgument(f"{name}: {type(thing).__name__}{dtype} gives no buffer ({error}); pass a numpy array or "
                                  "another object with the buffer protocol, of an elementary type") from None
        if not view.c_contiguous:
            raise InvalidArgument(f"{name}: the array of shape {view.shape} is not contiguous (strides {view.strides}); pass "
                                  "a contiguous one, such as numpy.ascontiguousarray gives")
        if writable and view.readonly:
            raise InvalidArgument(f"{name}: the {type(thing).__name__} is read-only, and a result is to be written there")
        self.view = view
        self.bytes = view.nbytes
        self.type, self.complex = element_type(view, name, type_name)
        self.count = view.nbytes // TYPES[self.type][1]
        raw = PyBuffer()
        get_buffer(view, raw, 0)
        self.address = raw.buf if self.bytes else ctypes.addressof(EMPTY) + writable
        release_buffer(raw)

    @property
    def type_number(self):
        return TYPES[self.type][0]


def element_type(view, name, type_name):
    """Name of Weft's type for the elements of a view, and whether they are complex (two of it each)."""
    text = view.format
    order, code = (text[0], text[1:]) if text[:1] in ("@", "=", "<", ">", "!") else ("@", text)
    foreign = order in (">", "!") and sys.byteorder == "little" or order == "<" and sys.byteorder == "big"
    if type_name is not None:
        if type_name not in TYPES:
            raise InvalidArgument(f"{name}: there is no type '{type_name}'; there are {', '.join(TYPES)}")
        size = TYPES[type_name][1]
        if view.itemsize not in (1, size) or view.nbytes % size:
            raise InvalidArgument(f"{name}: {view.nbytes} bytes in elements of {view.itemsize} are no array of {type_name}, "
                                  f"whose elements have {size}")
        return type_name, False
    found = None
    pair = code.startswith("Z")
    plain = code[1:] if pair else code
    if plain in FLOATS:
        found = FLOATS[plain]
    elif len(plain) == 1 and not pair and plain in SIGNED + UNSIGNED:
        found = ("i" if plain in SIGNED else "u") + str(8 * view.itemsize)
    elif plain == "c" and not pair:
        found = "u8"
    elif plain == "?" and not pair:
        found = "bool"
    if found is None or foreign:
        reason = " (foreign byte order)" if foreign else ""
        raise InvalidArgument(f"{name}: elements of format '{text}' are no type of Weft{reason}; it has {', '.join(TYPES)}; "
                              "type= says what raw bytes or integers of the same size mean")
    return found, pair


def same_type(first, second, first_name, second_name):
    if first.type != second.type or first.complex != second.complex:
        raise InvalidArgument(f"{first_name} has elements {first.type} and {second_name} {second.type}: they must be the same")


def alloc(size):
    """Memory that ranks on the same host read in place, zeroed, as a writable memoryview of bytes; numpy.frombuffer makes an
    array of it. Freed when the last view of it is gone."""
    memory = ctypes.c_void_p()
    check(lib.weft_mem_alloc(size, ctypes.byref(memory)))
    if not memory.value:
        return memoryview(bytearray())
    array = (ctypes.c_ubyte * size).from_address(memory.value)
    weakref.finalize(array, lib.weft_mem_free, memory.value).atexit = False
    return memoryview(array).cast("B")


class Registration:
    """Memory of the caller that ranks on the same host read in place; ended by deregister() or the end of a with block."""

    def __init__(self, buffer):
        self._buffer = buffer

    def deregister(self):
        buffer, self._buffer = self._buffer, None
        if buffer:
            check(lib.weft_mem_deregister(buffer.address))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.deregister()


def register(array):
    """Makes the memory of an array readable in place by ranks on the same host (whole private pages of it). Returns a
    Registration, or None where nothing of it can be moved: the array then works as before."""
    buffer = Buffer(array, "array", True)
    try:
        check(lib.weft_mem_register(buffer.address, buffer.bytes))
    except Unsupported:
        return None
    return Registration(buffer)
