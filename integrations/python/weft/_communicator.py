"""Communicators: their creation, and the collectives and messages on them."""
import _thread
import ctypes
import queue
import threading

from ._buffers import Buffer, same_type
from ._library import (UNIQUE_ID_BYTES, Aborted, AllGatherFunction, Config, Error, InvalidArgument, RecvInfo, STATUS, check,
                       failure, lib, printed)
from ._requests import SIGNALS_SEEN_MS, call, call_init, op_number

ANY_SOURCE = ANY_TAG = UNDEFINED = -1
IN_PLACE = ctypes.c_void_p(1)


def config(settings):
    """struct weft_config from keywords: timeout (seconds, None: none), transports, algorithm, interfaces, port_range, host_id,
    tuning_file, lanes, sockets, slice_bytes."""
    result = Config(size=ctypes.sizeof(Config))
    known = {name for name, _ in Config._fields_} - {"size", "timeout_ms"}
    for name, value in settings.items():
        if name == "timeout":
            result.timeout_ms = -1 if value is None else max(1, int(value * 1000))
        elif name in known:
            setattr(result, name, value.encode() if isinstance(value, str) else value)
        else:
            raise InvalidArgument(f"there is no setting '{name}'; there are timeout, {', '.join(sorted(known))}")
    return ctypes.byref(result)


def unique_id():
    """Bytes that identify a communicator to come, made on one rank and brought to all by any means; see from_id."""
    made = ctypes.create_string_buffer(UNIQUE_ID_BYTES)
    check(lib.weft_get_unique_id(made))
    return made.raw


def sizes(values, name, length):
    values = list(values)
    if len(values) != length:
        raise InvalidArgument(f"{name} has {len(values)} values for {length} ranks")
    if any(value < 0 for value in values):
        raise InvalidArgument(f"{name} has a negative value: {values}")
    return values


class Creation:
    """A call create(*arguments, &communicator) in a thread of its own, so that Ctrl-C ends the waiting for it: Python runs the
    handlers of signals in its main thread and only between calls of a library. Nobody waits for the thread at the end of the
    program."""

    def __init__(self, create, *arguments):
        self._create, self._arguments = create, arguments
        self._lock, self._tasks = threading.Lock(), queue.SimpleQueue()
        self._ended = self.left = False
        self._made = self._problem = None
        self._inherited = []

    def _run(self):
        try:
            self._made = create_here(self._create, self._arguments)
        except BaseException as error:
            self._problem = error
        with self._lock:
            self._ended = True
            self._tasks.put(None)
            if not self.left:
                return
        self._drop()

    def _drop(self):
        if self._made:
            lib.weft_comm_abort(self._made)  # those who came later are not to wait for this rank
            lib.weft_comm_destroy(self._made)
        for handle in self._inherited:
            lib.weft_comm_destroy(handle)

    def result(self):
        """Begins, waits for the communicator, and does what in_caller is asked for meanwhile."""
        try:
            _thread.start_new_thread(self._run, ())  # threading's start cannot be interrupted safely
            while (task := self._tasks.get()) is not None:
                task()
        except BaseException:
            with self._lock:
                self.left, ended = True, self._ended
            if ended:
                self._drop()
            raise
        if self._problem:
            raise self._problem
        return self._made

    def in_caller(self, function, *arguments):
        """For the thread: the result of function(*arguments), called by the one that waits in result()."""
        answer = queue.SimpleQueue()

        def task():
            try:
                answer.put((function(*arguments), None))
            except BaseException as error:
                answer.put((None, error))

        self._tasks.put(task)
        while not self.left:
            try:
                value, problem = answer.get(timeout=SIGNALS_SEEN_MS / 1000)
            except queue.Empty:
                continue
            if problem:
                raise problem
            return value
        raise Aborted("the creation was interrupted")

    def inherit(self, handle):
        """After it was left: destroys this, which its call uses, when that has ended. False: it has."""
        with self._lock:
            if not self._ended:
                self._inherited.append(handle)
            return not self._ended


def interruptible(create, *arguments):
    """The Creation; None: no handler of a signal runs in this thread, which can call by itself."""
    return Creation(create, *arguments) if threading.current_thread() is threading.main_thread() else None


def created(create, *arguments):
    """The communicator that create(*arguments, &communicator) makes."""
    creation = interruptible(create, *arguments)
    return creation.result() if creation else create_here(create, arguments)


def create_here(create, arguments):
    handle = ctypes.c_void_p()
    check(create(*arguments, ctypes.byref(handle)))
    return handle


class Parts:
    """Counts and displacements of one buffer, in elements, as the library takes them, checked against the buffer's end."""

    def __init__(self, counts, displs, length, buffer, name):
        # Elements of complex arrays are two of the library's.
        factor = 2 if buffer.complex else 1
        counts = [factor * count for count in sizes(counts, f"{name} counts", length)]
        if displs is not None:
            displs = [factor * displ for displ in sizes(displs, f"{name} displs", length)]
            end = max((displ + count for displ, count in zip(displs, counts) if count), default=0)
        else:
            end = sum(counts)
        if end > buffer.count:
            raise InvalidArgument(f"{name}: its parts end at element {end // factor}, and it has {buffer.count // factor}")
        self.values = counts
        self.counts = (ctypes.c_size_t * length)(*counts)
        self.displs = None if displs is None else (ctypes.c_size_t * length)(*displs)


class Communicator:
    """Ranks that communicate. Made by from_env, from_url, from_id or from_allgather, and by split and shrink.

    Collectives take arrays with the buffer protocol; counts follow from their sizes. recv=None means in place. wait=False
    returns a Request at once; the ..._init methods return a persistent one. type= says what raw bytes (or integers of the
    same size) are: type="bf16"."""

    def __init__(self, handle):
        self._handle = handle
        self._user = None  # a call that was left and still uses the handle
        self.rank = lib.weft_comm_rank(handle)
        self.size = lib.weft_comm_size(handle)

    # ---- creation and end ----

    @classmethod
    def from_env(cls, **settings):
        """Rank, size and meeting place from mpirun, srun or torchrun; one rank without any of them."""
        return cls(created(lib.weft_comm_create_env, config(settings)))

    @classmethod
    def from_url(cls, url, rank, size, **settings):
        """Meets at "tcp://host:port" (rank 0 listens there) or "file:///path"."""
        return cls(created(lib.weft_comm_create_url, url.encode(), rank, size, config(settings)))

    @classmethod
    def from_id(cls, id, rank, size, **settings):
        """Meets by the bytes that unique_id() made on one rank."""
        if len(id) != UNIQUE_ID_BYTES:
            raise InvalidArgument(f"an id has {UNIQUE_ID_BYTES} bytes, this one has {len(id)}")
        return cls(created(lib.weft_comm_create_id, bytes(id), rank, size, config(settings)))

    @classmethod
    def from_allgather(cls, allgather, rank, size, **settings):
        """Meets by the caller's allgather(bytes) -> list of each rank's bytes (Spark's BarrierTaskContext, say)."""
        problems = []

        def gather(_context, send, recv, count):
            mine = ctypes.string_at(send, count)
            try:
                parts = [bytes(part) for part in (creation.in_caller(allgather, mine) if creation else allgather(mine))]
                if len(parts) != size or any(len(part) != count for part in parts):
                    raise InvalidArgument(f"allgather gave parts of {[len(p) for p in parts]} bytes, not {size} of {count}")
                ctypes.memmove(recv, b"".join(parts), size * count)
                return 0
            except BaseException as error:  # must not cross the library
                problems.append(error)
                return 1

        function = AllGatherFunction(gather)
        arguments = ctypes.cast(function, ctypes.c_void_p), None, rank, size, config(settings)
        creation = interruptible(lib.weft_comm_create_allgather, *arguments)
        try:
            return cls(creation.result() if creation else create_here(lib.weft_comm_create_allgather, arguments))
        except Error:
            if problems:
                raise problems[0]
            raise

    def _derived(self, create, *arguments):
        """The communicator that create(this one, *arguments, &communicator) makes. Ctrl-C aborts this one; it is destroyed when
        that call has ended, too."""
        creation = interruptible(create, self._open, *arguments)
        if not creation:
            return create_here(create, (self._open, *arguments))
        try:
            return creation.result()
        finally:
            if creation.left:
                self._user = creation
                lib.weft_comm_abort(self._handle)

    def split(self, colour, key=0, **settings):
        """One new communicator for each colour (>= 0), ranks ordered by key, then old rank; None for colour UNDEFINED."""
        handle = self._derived(lib.weft_comm_split, colour, key, config(settings))
        return type(self)(handle) if handle else None

    def shrink(self, **settings):
        """After a failure: a new communicator of the ranks that are left. All of them must call it."""
        return type(self)(self._derived(lib.weft_comm_shrink, config(settings)))

    def destroy(self):
        """Ends it: tells the other ranks that this one left in order. Also the end of a with block."""
        handle, self._handle = self._handle, None
        if handle and not (self._user and self._user.inherit(handle)):
            check(lib.weft_comm_destroy(handle))

    def abort(self):
        """From any thread: every call on it, on all ranks, raises Aborted. It is still to be destroyed."""
        check(lib.weft_comm_abort(self._open))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None and self._handle:
            # Other ranks may wait for what this one will not call any more.
            lib.weft_comm_abort(self._handle)
        self.destroy()

    def __repr__(self):
        return f"<weft.Communicator rank {self.rank} of {self.size}{'' if self._handle else ', destroyed'}>"

    # ---- what it is ----

    @property
    def _open(self):
        if not self._handle:
            raise InvalidArgument("the communicator was destroyed")
        return self._handle

    @property
    def local_rank(self):
        """This rank's number among the ranks on its host."""
        return lib.weft_comm_local_rank(self._open)

    @property
    def local_size(self):
        """How many ranks are on this host."""
        return lib.weft_comm_local_size(self._open)

    @property
    def hosts(self):
        """The number of hosts."""
        return lib.weft_comm_hosts(self._open)

    @property
    def error(self):
        """The exception for the error that it is in, or None."""
        number = ctypes.c_int()
        check(lib.weft_comm_async_error(self._open, ctypes.byref(number)))
        return failure(number.value) if number.value and STATUS[number.value] != "WEFT_IN_PROGRESS" else None

    def describe(self, collective, size):
        """What a collective of that many bytes would use: algorithm and transports."""
        text = ctypes.create_string_buffer(1024)
        lib.weft_comm_describe(self._open, collective.encode(), size, text, len(text))
        return text.value.decode()

    def dump(self):
        """The flight recorder as text: the last collectives, their state, who is waited for."""
        return printed(lambda stream: lib.weft_comm_dump(self._open, stream))

    def set_timeout(self, seconds):
        """Time limit of its calls; None: without limit."""
        check(lib.weft_comm_set_timeout(self._open, -1 if seconds is None else max(1, int(seconds * 1000))))

    # ---- collectives ----

    def all_reduce(self, send, recv=None, op="sum", *, type=None, wait=True):
        """recv = op over all ranks' send, bitwise the same on all ranks."""
        return call(lib.weft_all_reduce, *self._reduce_like(send, recv, op, type), wait)

    def all_reduce_init(self, send, recv=None, op="sum", *, type=None):
        """Persistent all_reduce."""
        return call_init(lib.weft_all_reduce_init, *self._reduce_like(send, recv, op, type))

    def reduce(self, send, recv=None, op="sum", root=0, *, type=None, wait=True):
        """recv at root = op over all ranks' send; in place at root with recv=None."""
        return call(lib.weft_reduce, *self._reduce_like(send, recv, op, type, root), wait)

    def reduce_init(self, send, recv=None, op="sum", root=0, *, type=None):
        """Persistent reduce."""
        return call_init(lib.weft_reduce_init, *self._reduce_like(send, recv, op, type, root))

    def broadcast(self, buffer, root=0, *, type=None, wait=True):
        """root's buffer to all ranks' buffers."""
        return call(lib.weft_broadcast, *self._broadcast(buffer, root, type), wait)

    def broadcast_init(self, buffer, root=0, *, type=None):
        """Persistent broadcast."""
        return call_init(lib.weft_broadcast_init, *self._broadcast(buffer, root, type))

    def all_gather(self, send, recv, *, type=None, wait=True):
        """recv = all ranks' send one after the other. send=None: this rank's part is in recv already."""
        return call(lib.weft_all_gather, *self._all_gather(send, recv, type), wait)

    def all_gather_init(self, send, recv, *, type=None):
        """Persistent all_gather."""
        return call_init(lib.weft_all_gather_init, *self._all_gather(send, recv, type))

    def all_gather_v(self, send, recv, counts, displs=None, *, type=None, wait=True):
        """As all_gather, with counts[r] elements from rank r, to recv[displs[r]:] (packed without displs)."""
        return call(lib.weft_all_gather_v, *self._all_gather_v(send, recv, counts, displs, type), wait)

    def all_gather_v_init(self, send, recv, counts, displs=None, *, type=None):
        """Persistent all_gather_v."""
        return call_init(lib.weft_all_gather_v_init, *self._all_gather_v(send, recv, counts, displs, type))

    def reduce_scatter(self, send, recv, op="sum", *, type=None, wait=True):
        """recv = this rank's part of op over all ranks' send, which has size times as many elements. recv=None: into its
        place in send."""
        return call(lib.weft_reduce_scatter, *self._reduce_scatter(send, recv, op, type), wait)

    def reduce_scatter_init(self, send, recv, op="sum", *, type=None):
        """Persistent reduce_scatter."""
        return call_init(lib.weft_reduce_scatter_init, *self._reduce_scatter(send, recv, op, type))

    def reduce_scatter_v(self, send, recv, counts, op="sum", *, type=None, wait=True):
        """As reduce_scatter, with counts[r] elements for rank r."""
        return call(lib.weft_reduce_scatter_v, *self._reduce_scatter_v(send, recv, counts, op, type), wait)

    def reduce_scatter_v_init(self, send, recv, counts, op="sum", *, type=None):
        """Persistent reduce_scatter_v."""
        return call_init(lib.weft_reduce_scatter_v_init, *self._reduce_scatter_v(send, recv, counts, op, type))

    def gather(self, send, recv=None, root=0, *, type=None, wait=True):
        """recv at root = all ranks' send one after the other. send=None at root: its part is in recv already."""
        return call(lib.weft_gather, *self._gather(send, recv, root, type), wait)

    def gather_init(self, send, recv=None, root=0, *, type=None):
        """Persistent gather."""
        return call_init(lib.weft_gather_init, *self._gather(send, recv, root, type))

    def gather_v(self, send, recv=None, counts=None, displs=None, root=0, *, type=None, wait=True):
        """As gather; counts and displs matter at root only."""
        return call(lib.weft_gather_v, *self._gather_v(send, recv, counts, displs, root, type), wait)

    def gather_v_init(self, send, recv=None, counts=None, displs=None, root=0, *, type=None):
        """Persistent gather_v."""
        return call_init(lib.weft_gather_v_init, *self._gather_v(send, recv, counts, displs, root, type))

    def scatter(self, send, recv, root=0, *, type=None, wait=True):
        """recv = this rank's part of root's send. recv=None at root: its part stays in send."""
        return call(lib.weft_scatter, *self._scatter(send, recv, root, type), wait)

    def scatter_init(self, send, recv, root=0, *, type=None):
        """Persistent scatter."""
        return call_init(lib.weft_scatter_init, *self._scatter(send, recv, root, type))

    def scatter_v(self, send, recv, counts=None, displs=None, root=0, *, type=None, wait=True):
        """As scatter; counts and displs matter at root only."""
        return call(lib.weft_scatter_v, *self._scatter_v(send, recv, counts, displs, root, type), wait)

    def scatter_v_init(self, send, recv, counts=None, displs=None, root=0, *, type=None):
        """Persistent scatter_v."""
        return call_init(lib.weft_scatter_v_init, *self._scatter_v(send, recv, counts, displs, root, type))

    def all_to_all(self, send, recv=None, *, type=None, wait=True):
        """Part r of recv = part `rank` of rank r's send."""
        return call(lib.weft_all_to_all, *self._all_to_all(send, recv, type), wait)

    def all_to_all_init(self, send, recv=None, *, type=None):
        """Persistent all_to_all."""
        return call_init(lib.weft_all_to_all_init, *self._all_to_all(send, recv, type))

    def all_to_all_v(self, send, send_counts, recv, recv_counts, send_displs=None, recv_displs=None, *, type=None, wait=True):
        """As all_to_all, with counts and displacements for each rank."""
        return call(lib.weft_all_to_all_v, *self._all_to_all_v(send, send_counts, send_displs, recv, recv_counts, recv_displs,
                                                               type), wait)

    def all_to_all_v_init(self, send, send_counts, recv, recv_counts, send_displs=None, recv_displs=None, *, type=None):
        """Persistent all_to_all_v."""
        return call_init(lib.weft_all_to_all_v_init, *self._all_to_all_v(send, send_counts, send_displs, recv, recv_counts,
                                                                         recv_displs, type))

    def barrier(self, *, wait=True):
        """Returns on no rank before all have called it."""
        return call(lib.weft_barrier, (self._open,), [], wait)

    def barrier_init(self):
        """Persistent barrier."""
        return call_init(lib.weft_barrier_init, (self._open,), [])

    # ---- point to point ----

    def send(self, buffer, dest, tag=0, *, type=None, wait=True):
        """A message to one rank."""
        return call(lib.weft_send, *self._send(buffer, dest, tag, type), wait)

    def send_init(self, buffer, dest, tag=0, *, type=None):
        """Persistent send."""
        return call_init(lib.weft_send_init, *self._send(buffer, dest, tag, type))

    def recv(self, buffer, source=ANY_SOURCE, tag=ANY_TAG, *, type=None, wait=True):
        """A message of at most the buffer's size; returns a Received (or a request whose wait() does)."""
        return call(lib.weft_recv, *self._recv(buffer, source, tag, type), wait)

    def recv_init(self, buffer, source=ANY_SOURCE, tag=ANY_TAG, *, type=None):
        """Persistent recv."""
        return call_init(lib.weft_recv_init, *self._recv(buffer, source, tag, type))

    # ---- arguments of each, with what must be kept until it is done ----

    def _pair(self, send, recv, type):
        """Buffers of both; None is in place."""
        sending = None if send is None else Buffer(send, "send", False, type)
        receiving = None if recv is None else Buffer(recv, "recv", True, type)
        if sending and receiving:
            same_type(sending, receiving, "send", "recv")
        return sending, receiving, [buffer for buffer in (sending, receiving) if buffer]

    def _reduce_like(self, send, recv, op, type, root=None):
        writes = recv is None and root in (None, self.rank)
        sending = Buffer(send, "send", writes, type)
        receiving = None if recv is None or root not in (None, self.rank) else Buffer(recv, "recv", True, type)
        if receiving:
            same_type(sending, receiving, "send", "recv")
            expect(receiving.count, sending.count, "recv", "send has")
        number, kept = op_number(op, sending)
        target = receiving.address if receiving else sending.address if writes else None
        arguments = (self._open, sending.address, target, sending.count, sending.type_number, number)
        return (arguments if root is None else arguments + (root,)), kept + [sending, receiving]

    def _broadcast(self, buffer, root, type):
        used = Buffer(buffer, "buffer", root != self.rank, type)
        return (self._open, used.address, used.address, used.count, used.type_number, root), [used]

    def _all_gather(self, send, recv, type):
        sending, receiving, kept = self._pair(send, required(recv, "recv"), type)
        count = divided(receiving.count, self.size, "recv")
        if sending:
            expect(count * self.size, sending.count * self.size, "recv", f"send times {self.size} ranks is")
        return (self._open, address(sending), receiving.address, count, receiving.type_number), kept

    def _all_gather_v(self, send, recv, counts, displs, type):
        sending, receiving, kept = self._pair(send, required(recv, "recv"), type)
        parts = Parts(counts, displs, self.size, receiving, "recv")
        own = parts.values[self.rank]
        if sending:
            expect(sending.count, own, "send", f"counts[{self.rank}] is")
        return ((self._open, address(sending), own, receiving.address, parts.counts, parts.displs, receiving.type_number),
                kept + [parts])

    def _reduce_scatter(self, send, recv, op, type):
        sending = Buffer(required(send, "send"), "send", recv is None, type)
        receiving = None if recv is None else Buffer(recv, "recv", True, type)
        count = divided(sending.count, self.size, "send")
        if receiving:
            same_type(sending, receiving, "send", "recv")
            expect(receiving.count, count, "recv", f"send over {self.size} ranks is")
        number, kept = op_number(op, sending)
        return ((self._open, sending.address, address(receiving), count, sending.type_number, number),
                kept + [sending, receiving])

    def _reduce_scatter_v(self, send, recv, counts, op, type):
        sending, receiving, kept = self._pair(required(send, "send"), required(recv, "recv"), type)
        parts = Parts(counts, None, self.size, sending, "send")
        expect(receiving.count, parts.values[self.rank], "recv", f"counts[{self.rank}] is")
        number, kept_op = op_number(op, sending)
        return ((self._open, sending.address, receiving.address, parts.counts, sending.type_number, number),
                kept + kept_op + [parts])

    def _gather(self, send, recv, root, type):
        at_root = self.rank == root
        sending, receiving, kept = self._pair(send if at_root else required(send, "send"),
                                              required(recv, "recv at root") if at_root else None, type)
        if at_root:
            count = divided(receiving.count, self.size, "recv")
            if sending:
                expect(sending.count, count, "send", f"recv over {self.size} ranks is")
        else:
            count = sending.count
        one = receiving or sending
        return (self._open, address(sending), receiving and receiving.address, count, one.type_number, root), kept

    def _gather_v(self, send, recv, counts, displs, root, type):
        at_root = self.rank == root
        sending, receiving, kept = self._pair(send if at_root else required(send, "send"),
                                              required(recv, "recv at root") if at_root else None, type)
        parts = Parts(required(counts, "counts at root"), displs, self.size, receiving, "recv") if at_root else None
        count = parts.values[self.rank] if at_root else sending.count
        if at_root and sending:
            expect(sending.count, count, "send", f"counts[{self.rank}] is")
        one = receiving or sending
        return ((self._open, address(sending), count, receiving and receiving.address, parts and parts.counts,
                 parts and parts.displs, one.type_number, root), kept + [parts])

    def _scatter(self, send, recv, root, type):
        at_root = self.rank == root
        sending, receiving, kept = self._pair(required(send, "send at root") if at_root else None,
                                              recv if at_root else required(recv, "recv"), type)
        if at_root:
            count = divided(sending.count, self.size, "send")
            if receiving:
                expect(receiving.count, count, "recv", f"send over {self.size} ranks is")
        else:
            count = receiving.count
        one = sending or receiving
        return (self._open, sending and sending.address, address(receiving), count, one.type_number, root), kept

    def _scatter_v(self, send, recv, counts, displs, root, type):
        at_root = self.rank == root
        sending, receiving, kept = self._pair(required(send, "send at root") if at_root else None,
                                              recv if at_root else required(recv, "recv"), type)
        parts = Parts(required(counts, "counts at root"), displs, self.size, sending, "send") if at_root else None
        count = parts.values[self.rank] if at_root else receiving.count
        if at_root and receiving:
            expect(receiving.count, count, "recv", f"counts[{self.rank}] is")
        one = sending or receiving
        return ((self._open, sending and sending.address, parts and parts.counts, parts and parts.displs, address(receiving),
                 count, one.type_number, root), kept + [parts])

    def _all_to_all(self, send, recv, type):
        sending = Buffer(required(send, "send"), "send", recv is None, type)
        receiving = None if recv is None else Buffer(recv, "recv", True, type)
        if receiving:
            same_type(sending, receiving, "send", "recv")
            expect(receiving.count, sending.count, "recv", "send has")
        count = divided(sending.count, self.size, "send")
        target = (receiving or sending).address
        return (self._open, sending.address, target, count, sending.type_number), [sending, receiving]

    def _all_to_all_v(self, send, send_counts, send_displs, recv, recv_counts, recv_displs, type):
        sending, receiving, kept = self._pair(required(send, "send"), required(recv, "recv"), type)
        out = Parts(send_counts, send_displs, self.size, sending, "send")
        into = Parts(recv_counts, recv_displs, self.size, receiving, "recv")
        return ((self._open, sending.address, out.counts, out.displs, receiving.address, into.counts, into.displs,
                 sending.type_number), kept + [out, into])

    def _send(self, buffer, dest, tag, type):
        used = Buffer(buffer, "buffer", False, type)
        return (self._open, used.address, used.count, used.type_number, dest, tag), [used]

    def _recv(self, buffer, source, tag, type):
        used = Buffer(buffer, "buffer", True, type)
        info = RecvInfo()
        return (self._open, used.address, used.count, used.type_number, source, tag, ctypes.addressof(info)), [used, info]


def address(buffer):
    return buffer.address if buffer else IN_PLACE


def required(thing, name):
    if thing is None:
        raise InvalidArgument(f"{name}: an array (or list of counts) is needed, not None")
    return thing


def expect(count, other, name, what):
    if count != other:
        raise InvalidArgument(f"{name} has {count} elements, {what} {other}")


def divided(count, size, name):
    if count % size:
        raise InvalidArgument(f"{name} has {count} elements, which is no multiple of {size} ranks")
    return count // size
