"""Requests, waiting for several of them, groups, and reduction operations. A request keeps its buffers until it is done."""
import ctypes
import threading
import weakref

from ._library import OPS, STATUS, TYPES, Error, InvalidArgument, OpFunction, RecvInfo, check, lib

# Python runs the handlers of signals, Ctrl-C among them, in its main thread and only between calls of a library.
SIGNALS_SEEN_MS = 50
IN_PROGRESS = STATUS.index("WEFT_IN_PROGRESS")
PLACE = ctypes.byref(ctypes.c_int())  # of one request among one, which nobody asks for

# Requests that are not done yet: the library writes into their buffers although the program may have let go of them.
outstanding = set()
groups = threading.local()


class Received:
    """What a receive got: source, tag and the number of bytes."""

    def __init__(self, info):
        self.source, self.tag, self.bytes = info.source, info.tag, info.bytes

    def __repr__(self):
        return f"Received(source={self.source}, tag={self.tag}, bytes={self.bytes})"


class Request:
    """A collective or message under way (wait=False), or a persistent one (the ..._init methods), which start() begins.

    wait() and test() finish it; for a receive they return a Received (test: or True), else None (test: True or False). Its
    buffers must not be touched until then, and are kept alive."""

    def __init__(self, handle, kept, persistent=False):
        self._handle = handle
        self._kept = kept
        self._persistent = persistent
        self._active = not persistent
        if self._active:
            outstanding.add(self)

    def start(self):
        """Begins a persistent request. Returns it."""
        if not self._persistent:
            raise InvalidArgument("start() is for persistent requests, made by the ..._init methods")
        check(lib.weft_start(self._handle))
        self._active = True
        outstanding.add(self)
        return self

    def wait(self):
        """Waits until it is done, while other threads of Python run. Ctrl-C ends the waiting and leaves it under way."""
        reference = ctypes.byref(self._handle)
        while (number := lib.weft_wait_any_for(reference, 1, SIGNALS_SEEN_MS, PLACE)) == IN_PROGRESS:
            pass  # here the handlers of signals run
        return self._finish(number)

    def test(self):
        """True (or a Received) if it is done, else False. Never blocks."""
        done = ctypes.c_bool()
        number = lib.weft_test(ctypes.byref(self._handle), ctypes.byref(done))
        if not done.value and not number:
            return False
        return self._finish(number) or True

    def set_timeout(self, seconds):
        """A time limit of this request alone, counted from its start; None: without limit."""
        check(lib.weft_request_set_timeout(self._handle, -1 if seconds is None else max(1, int(seconds * 1000))))

    def free(self):
        """Frees a persistent request that is not under way; also done when it is garbage."""
        if self._persistent and self._handle:
            check(lib.weft_request_free(ctypes.byref(self._handle)))
            self._kept = None

    @property
    def active(self):
        """Whether it is under way."""
        return self._active

    def _finish(self, number):
        was_active, self._active = self._active, False
        outstanding.discard(self)
        kept = self._kept
        if not self._persistent:
            self._kept = None
        check(number)
        return finished(kept) if was_active else None

    def __del__(self):
        try:
            self.free()
        except Exception:  # interpreter shutdown, or the communicator is gone
            pass


def finished(kept):
    """What a completed call returns, from what was kept for it."""
    result = None
    for thing in kept or ():
        if isinstance(thing, Operation):
            thing.check()
        elif isinstance(thing, RecvInfo):
            result = Received(thing)
    return result


def handles(requests):
    return (ctypes.c_void_p * max(1, len(requests)))(*[r._handle.value for r in requests])


def wait_or_abort(reference, communicators):
    """Waits in a call that blocks. What Ctrl-C interrupts nobody would finish, so the other ranks are told."""
    try:
        while (number := lib.weft_wait_any_for(reference, 1, SIGNALS_SEEN_MS, PLACE)) == IN_PROGRESS:
            pass  # here the handlers of signals run
    except BaseException:
        for communicator in communicators:
            lib.weft_comm_abort(communicator)
        while lib.weft_wait_any_for(reference, 1, SIGNALS_SEEN_MS, PLACE) == IN_PROGRESS:
            pass  # its buffers are the caller's again when it has ended
        raise
    check(number)


def wait_all(requests):
    """Waits for all requests; raises the first error after all have ended. Returns the list of what each wait() gives."""
    results, problem = [], None
    for request in requests:
        try:
            results.append(request.wait())
        except Error as error:
            problem = problem or error
    if problem:
        raise problem
    return results


def wait_any(requests):
    """Waits until one of the requests is done. Returns its index, or -1 if none is under way."""
    requests = list(requests)
    array = handles(requests)
    index = ctypes.c_int(-1)
    while (number := lib.weft_wait_any_for(array, len(requests), SIGNALS_SEEN_MS, ctypes.byref(index))) == IN_PROGRESS:
        pass
    if index.value >= 0:
        request = requests[index.value]
        request._handle.value = array[index.value]
        request._finish(number)
    check(number)
    return index.value


def progress():
    """Progresses all outstanding requests once."""
    check(lib.weft_progress())


class Group:
    """with weft.group(): calls inside begin together at its end, and are complete after it. With wait=False its request is
    `request` after the block."""

    def __init__(self, wait=True):
        self._wait = wait
        self.request = None

    def __enter__(self):
        check(lib.weft_group_start())
        groups.depth = getattr(groups, "depth", 0) + 1
        if groups.depth == 1:
            groups.kept, groups.communicators = [], []
        return self

    def __exit__(self, kind, *_):
        groups.depth -= 1
        if groups.depth:
            check(lib.weft_group_end(None))
            return
        kept, groups.kept = groups.kept, []
        # Calls made before an exception have to begin also: other ranks take part in them.
        handle = ctypes.c_void_p()
        check(lib.weft_group_end(ctypes.byref(handle)))
        if self._wait and kind is None:
            wait_or_abort(ctypes.byref(handle), groups.communicators)
            finished(kept)
        else:
            self.request = Request(handle, kept)


def group(wait=True):
    """A block whose calls begin together: sends and receives in it cannot block one another."""
    return Group(wait)


def call(function, arguments, kept, wait):
    """Calls a collective or message: blocking, into the open group, or with a request."""
    if getattr(groups, "depth", 0):
        check(function(*arguments, None))
        groups.kept.extend(kept)
        groups.communicators.append(arguments[0])
        return None
    handle = ctypes.c_void_p()
    reference = ctypes.byref(handle)
    check(function(*arguments, reference))
    if not wait:
        return Request(handle, kept)
    wait_or_abort(reference, arguments[:1])
    return finished(kept)


def call_init(function, arguments, kept):
    handle = ctypes.c_void_p()
    check(function(*arguments, ctypes.byref(handle)))
    return Request(handle, kept, persistent=True)


# ---- operations --------------------------------------------------------------------------------------------------------

FORMATS = {"i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q", "f32": "f",
           "f64": "d", "bool": "?"}


class Operation:
    """A reduction of the caller's own; see operation() and premultiplied_sum(). Freed when it is garbage."""

    def __init__(self, number, function=None):
        self.number = number
        self._function = function
        self.problem = None

    def check(self):
        """Raises what the user's function raised in the calls that have just completed."""
        problem, self.problem = self.problem, None
        if problem is not None:
            raise problem

    def __del__(self):
        if lib is not None:
            lib.weft_op_free(self.number)


def operation(function, commutes=True):
    """A reduction by function(result, left, right): memoryviews of the elements (bytes for types that Python does not know),
    result[i] = left[i] op right[i] for each. Must be associative; result may be left or right. An exception in it is raised
    by the call that waits, on this rank."""
    box = []

    def run(result, left, right, count, number, _context):
        name, size = list(TYPES)[number], TYPES[list(TYPES)[number]][1]
        try:
            views = [memoryview((ctypes.c_char * (count * size)).from_address(address)).cast("B")
                     for address in (result, left, right)]
            function(*[view.cast(FORMATS[name]) if name in FORMATS else view for view in views])
        except BaseException as error:  # must not cross the library
            box[0]().problem = error

    pointer = OpFunction(run)
    number = ctypes.c_int()
    check(lib.weft_op_create(ctypes.cast(pointer, ctypes.c_void_p), None, 1 if commutes else 0, ctypes.byref(number)))
    made = Operation(number.value, pointer)
    box.append(weakref.ref(made))
    return made


def premultiplied_sum(factor, type="f32"):
    """The sum of the inputs, each multiplied by its rank's factor, for elements of one type."""
    if type not in FORMATS:
        raise InvalidArgument(f"premultiplied_sum: factors of type '{type}' cannot be written in Python; there are "
                              f"{', '.join(FORMATS)}")
    value = memoryview(bytearray(TYPES[type][1])).cast(FORMATS[type])
    value[0] = factor if type in ("f32", "f64") else int(factor)
    number = ctypes.c_int()
    element = (ctypes.c_char * value.nbytes).from_buffer(value)
    check(lib.weft_op_create_premul_sum(element, TYPES[type][0], ctypes.byref(number)))
    return Operation(number.value)


def op_number(op, buffer):
    """Number of an operation and what must be kept for it."""
    if isinstance(op, Operation):
        return op.number, [op]
    if op not in OPS:
        raise InvalidArgument(f"there is no operation '{op}'; there are {', '.join(OPS)}, operation() and premultiplied_sum()")
    if buffer.complex and op not in ("sum", "avg"):
        raise InvalidArgument(f"'{op}' of complex elements: only sum and avg are known")
    return OPS[op], []
