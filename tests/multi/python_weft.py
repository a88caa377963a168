#!/usr/bin/env python3
# The Python package: every collective in every form against plain Python, messages, groups, operations, communicators, and the
# errors; alone, by torchrun's variables, under mpirun, and with numpy where a Python has it. Started again as each rank.
import array
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

BUILD = os.path.abspath(os.environ.get("BUILD", "build"))
if len(sys.argv) > 1:
    sys.path.insert(0, os.path.join(BUILD, "python"))
    import weft


def product(values):
    result = 1
    for value in values:
        result *= value
    return result


OPERATIONS = {"sum": sum, "prod": product, "min": min, "max": max}


def data(rank, count, code, salt):
    """What a rank sends: small numbers, so that every sum and product is exact in every type."""
    return array.array(code, [(3 * rank + 5 * i + salt) % 4 for i in range(count)])


def same(what, got, expected):
    if list(got) != list(expected):
        sys.exit(f"{what}: {list(got)[:20]} instead of {list(expected)[:20]}")


def raises(kind, words, function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except kind as error:
        if not all(word in str(error) for word in words):
            sys.exit(f"{function}: '{error}' does not name {words}")
        return error
    sys.exit(f"{function} raised no {kind}")


def run(comm, form, name, *arguments, **keywords):
    """Calls a collective in one of its forms; persistent ones twice (their inputs stay, or the form is not in place)."""
    if form == "blocking":
        return getattr(comm, name)(*arguments, **keywords)
    if form == "request":
        return getattr(comm, name)(*arguments, wait=False, **keywords).wait()
    if form == "tested":
        request = getattr(comm, name)(*arguments, wait=False, **keywords)
        while not (result := request.test()):
            pass
        return result
    request = getattr(comm, name + "_init")(*arguments, **keywords)
    request.start().wait()
    return request.start().wait()


def test_collectives(comm, form, code, count, salt):
    size, rank = comm.size, comm.rank
    root = salt % size
    zeros = lambda n: array.array(code, [0] * n)
    inputs = [data(r, count * size, code, salt) for r in range(size)]
    part = lambda r, k: inputs[r][k * count:(k + 1) * count]
    for op, combine in OPERATIONS.items():
        expected = array.array(code, [combine(values) for values in zip(*inputs)])
        out = zeros(count * size)
        run(comm, form, "all_reduce", inputs[rank], out, op)
        same(f"all_reduce {op} {form}", out, expected)
        out = zeros(count * size)
        run(comm, form, "reduce", inputs[rank], out, op, root)
        same(f"reduce {op} {form}", out, expected if rank == root else zeros(count * size))
        out = zeros(count)
        run(comm, form, "reduce_scatter", inputs[rank], out, op)
        same(f"reduce_scatter {op} {form}", out, expected[rank * count:(rank + 1) * count])
    out = zeros(count * size)
    run(comm, form, "all_gather", part(rank, 0), out)
    everything = sum((part(r, 0) for r in range(size)), zeros(0))
    same(f"all_gather {form}", out, everything)
    out = zeros(count * size)
    run(comm, form, "gather", part(rank, 0), out if rank == root else None, root)
    same(f"gather {form}", out, everything if rank == root else zeros(count * size))
    out = zeros(count)
    run(comm, form, "scatter", inputs[rank] if rank == root else None, out, root)
    same(f"scatter {form}", out, part(root, rank))
    out = zeros(count * size)
    run(comm, form, "all_to_all", inputs[rank], out)
    same(f"all_to_all {form}", out, sum((part(r, rank) for r in range(size)), zeros(0)))
    out = inputs[rank][:]
    run(comm, form, "broadcast", out, root)
    same(f"broadcast {form}", out, inputs[root])
    run(comm, form, "barrier")


def test_vectors(comm, form, code, salt):
    size, rank = comm.size, comm.rank
    root = salt % size
    counts = [(salt + 2 * r) % 5 for r in range(size)]
    displs = [sum(counts[r + 1:]) + size - r for r in range(size)]  # backwards, with gaps
    total, room = sum(counts), sum(counts) + size + 1
    own = data(rank, counts[rank], code, salt)
    expected = array.array(code, [9] * room)
    for r in range(size):
        expected[displs[r]:displs[r] + counts[r]] = data(r, counts[r], code, salt)
    out = array.array(code, [9] * room)
    run(comm, form, "all_gather_v", own, out, counts, displs)
    same(f"all_gather_v {form}", out, expected)
    out = array.array(code, [9] * room)
    at_root = (out, counts, displs) if rank == root else (None, None, None)
    run(comm, form, "gather_v", own, *at_root, root=root)
    same(f"gather_v {form}", out, expected if rank == root else [9] * room)
    out = array.array(code, [0] * counts[rank])
    send = (expected, counts, displs) if rank == root else (None, None, None)
    run(comm, form, "scatter_v", send[0], out, *send[1:], root=root)
    same(f"scatter_v {form}", out, own)
    inputs = [data(r, total, code, salt) for r in range(size)]
    out = array.array(code, [0] * counts[rank])
    run(comm, form, "reduce_scatter_v", inputs[rank], out, counts)
    before = sum(counts[:rank])
    same(f"reduce_scatter_v {form}", out, [sum(values) for values in zip(*inputs)][before:before + counts[rank]])
    # Rank a sends (a + b) % 3 elements to rank b.
    amounts = lambda r: [(r + k) % 3 for k in range(size)]
    send = [data(r, sum(amounts(r)), code, salt) for r in range(size)]
    out = array.array(code, [0] * sum(amounts(rank)))
    run(comm, form, "all_to_all_v", send[rank], amounts(rank), out, amounts(rank))
    expected = array.array(code)
    for r in range(size):
        before = sum(amounts(r)[:rank])
        expected += send[r][before:before + amounts(r)[rank]]
    same(f"all_to_all_v {form}", out, expected)


def test_in_place(comm, code, salt):
    size, rank = comm.size, comm.rank
    inputs = [data(r, 3 * size, code, salt) for r in range(size)]
    sums = [sum(values) for values in zip(*inputs)]
    x = inputs[rank][:]
    comm.all_reduce(x)
    same("all_reduce in place", x, sums)
    x = inputs[rank][:]
    comm.reduce(x, root=size - 1)
    same("reduce in place", x, sums if rank == size - 1 else inputs[rank])
    x = inputs[rank][:]
    comm.reduce_scatter(x, None)
    same("reduce_scatter in place", x[3 * rank:3 * rank + 3], sums[3 * rank:3 * rank + 3])
    x = inputs[rank][:]
    comm.all_gather(None, x)
    same("all_gather in place", x, sum((inputs[r][3 * r:3 * r + 3] for r in range(size)), array.array(code)))
    x = inputs[rank][:]
    comm.all_to_all(x)
    same("all_to_all in place", x, sum((inputs[r][3 * rank:3 * rank + 3] for r in range(size)), array.array(code)))
    x = inputs[rank][:]
    if rank == 0:
        comm.gather(None, x)
        same("gather in place", x, inputs[0][:3] + sum((inputs[r][:3] for r in range(1, size)), array.array(code)))
        comm.scatter(inputs[0], None)
    else:
        comm.gather(x[:3])
        y = array.array(code, [0] * 3)
        comm.scatter(None, y)
        same("scatter in place", y, inputs[0][3 * rank:3 * rank + 3])


def test_messages(comm):
    size, rank = comm.size, comm.rank
    right, left = (rank + 1) % size, (rank - 1) % size
    got = bytearray(20)
    with weft.group():
        comm.send(b"from %d" % rank, right, tag=3)
        comm.recv(got, left, 3)
    same("group of send and receive", got.rstrip(b"\0"), b"from %d" % left)
    receive = comm.recv(got, wait=False)
    comm.send(b"again", right, tag=5)
    info = receive.wait()
    same("what a receive got", (info.source, info.tag, info.bytes), (left, 5, 5))
    one, two = array.array("d", [rank]), array.array("d", [1.0])
    with weft.group(wait=False) as group:
        comm.all_reduce(one)
        comm.all_reduce(two)
    group.request.wait()
    same("grouped all_reduces", (one[0], two[0]), (sum(range(size)), size))
    # Requests whose buffers the program has let go of, waited for together and one by one.
    requests = [comm.all_reduce(array.array("q", [rank] * 5000), wait=False) for _ in range(5)]
    results = [request._kept[-2].view.obj for request in requests]
    while (index := weft.wait_any(requests[:3])) >= 0:
        same("wait_any", results[index], [sum(range(size))] * 5000)
    weft.wait_all(requests)
    same("wait_all", results[4], [sum(range(size))] * 5000)


def test_operations(comm):
    rank, size = comm.rank, comm.size

    def last(result, left, right):
        result[:] = right[:]

    x = array.array("i", [rank, -rank])
    comm.all_reduce(x, op=weft.operation(last, commutes=False))
    same("operation that does not commute", x, [size - 1, 1 - size])
    x = array.array("d", [rank])
    comm.all_reduce(x, op=weft.premultiplied_sum(2.0 + rank, "f64"))
    same("premultiplied_sum", x, [sum(r * (2.0 + r) for r in range(size))])
    if size > 1:
        def broken(result, left, right):
            raise ValueError("the user's mistake")
        ended = 0
        x = array.array("i", [rank] * 64)
        try:
            comm.all_reduce(x, op=weft.operation(broken))
        except ValueError as error:
            ended = "mistake" in str(error)
        total = array.array("i", [int(ended)])
        comm.all_reduce(total)
        if not total[0]:
            sys.exit("the exception of a user's operation reached nobody")


def test_communicators(comm):
    size, rank = comm.size, comm.rank
    half = comm.split(rank % 2 if rank < 2 else weft.UNDEFINED, key=-rank)
    if rank < 2:
        same("split", (half.size, half.rank), (1, 0))
        half.destroy()
    elif half is not None:
        sys.exit("colour UNDEFINED got a communicator")
    numbers = bytearray(weft.unique_id() if rank == 0 else 128)
    comm.broadcast(numbers)
    with weft.Communicator.from_id(bytes(numbers), rank, size, timeout=30) as second:
        def allgather(mine):
            everything = bytearray(size * len(mine))
            second.all_gather(mine, everything)
            return [everything[r * len(mine):(r + 1) * len(mine)] for r in range(size)]
        with weft.Communicator.from_allgather(allgather, rank, size) as third:
            x = array.array("i", [1])
            third.all_reduce(x)
            same("communicator from an all-gather", x, [size])
    same("local size and hosts", (comm.local_size, comm.local_rank, comm.hosts), (size, rank, 1))
    if "all_reduce" not in comm.dump() or not comm.describe("all_reduce", 1024) or comm.error is not None:
        sys.exit("dump, describe or error")
    raises(weft.InvalidArgument, ["destroyed"], second.barrier)


def test_refusals(comm):
    x = array.array("i", [1, 2, 3, 4])
    odd = memoryview(x)[::2]
    raises(weft.InvalidArgument, ["send", "not contiguous"], comm.all_reduce, odd)
    raises(weft.InvalidArgument, ["recv", "read-only"], comm.all_reduce, x, bytes(16))
    raises(weft.InvalidArgument, ["i32", "f32"], comm.all_reduce, x, array.array("f", [0] * 4))
    raises(weft.InvalidArgument, ["list"], comm.all_reduce, [1, 2])
    raises(weft.InvalidArgument, ["4 elements", "5"], comm.all_reduce, array.array("i", range(5)), x)
    raises(weft.InvalidArgument, ["mean", "avg"], comm.all_reduce, x, op="mean")
    raises(weft.InvalidArgument, ["type", "f23"], comm.all_reduce, x, type="f23")
    raises(weft.InvalidArgument, ["timeout", "speed"], weft.Communicator.from_env, speed=3)
    raises(weft.InvalidArgument, ["7 values"], comm.all_gather_v, x, x, [1] * 7)
    raises(weft.InvalidArgument, ["end at element"], comm.all_gather_v, x, x, [400] * comm.size)
    error = raises(weft.InvalidArgument, ["root"], comm.broadcast, x, comm.size)
    same("status", [error.status, bool(error.detail)], ["WEFT_ERR_INVALID", True])
    raises(ValueError, [], comm.all_reduce, x, op="band and bor")  # an InvalidArgument is a ValueError
    bf16 = array.array("H", [0x3F80] * 3)  # 1.0
    comm.all_reduce(bf16, type="bf16", op="max")
    same("raw bf16", bf16, [0x3F80] * 3)


def test_memory(comm):
    shared = weft.alloc(4096).cast("f")
    shared[0] = comm.rank
    comm.all_reduce(shared, wait=False).wait()
    same("memory of weft", shared[:2], [sum(range(comm.size)), 0])
    large = bytearray(1 << 20)
    registration = weft.register(large)
    comm.all_reduce(large)
    if registration:
        registration.deregister()
    # Only one rank's is registered, and its edges are not whole pages: the others' are private.
    for registering in range(comm.size):
        large = bytearray(bytes([comm.rank + 1]) * 1000003)
        registration = weft.register(large) if comm.rank == registering else None
        for form in ("blocking", "request"):
            large[:] = bytes([comm.rank + 1]) * len(large)
            run(comm, form, "all_reduce", large)
            same("one rank's registered memory", [bytes(large) == bytes([sum(range(1, comm.size + 1))]) * len(large)], [True])
        if registration:
            registration.deregister()


def test_threads(comm):
    """Another thread of Python runs while a rank waits: the last rank calls only after its thread has counted."""
    counted = threading.Event()

    def count():
        for _ in range(1000):
            pass
        counted.set()
    thread = threading.Thread(target=count)
    if comm.rank == comm.size - 1:
        thread.start()
        counted.wait()
        comm.barrier()
    else:
        request = comm.barrier(wait=False)
        thread.start()
        request.wait()
    thread.join()


def test_abort(comm):
    other = comm.split(0)
    if other.rank == 0:
        other.abort()
    raises(weft.Aborted, ["abort"], other.barrier)
    if other.error is None or other.error.status != "WEFT_ERR_ABORTED":
        sys.exit("error of an aborted communicator")
    other.destroy()


def test_interrupts(comm):
    """Ctrl-C while a rank waits for the others: of a request it ends the waiting, of a blocking call the communicator."""
    other = comm.split(0)
    word, token = array.array("i", [1]), array.array("i", [0])
    interrupt = lambda: threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    if comm.rank == 0 and comm.size > 1:
        request = other.all_reduce(word, wait=False)
        interrupt()
        raises(KeyboardInterrupt, [], request.wait)
        if not request.active or request.test():
            sys.exit("an interrupted wait has ended its request")
        for rank in range(1, comm.size):  # now they come
            comm.send(token, rank)
        request.wait()
        same("all_reduce after an interrupt", word, [comm.size])
        interrupt()
        raises(KeyboardInterrupt, [], other.all_reduce, word)
        for rank in range(1, comm.size):
            comm.send(token, rank)
    elif comm.size > 1:
        comm.recv(token, 0)
        other.all_reduce(word)
        comm.recv(token, 0)
    if comm.size > 1:  # who does not know of the abort yet finds rank 0 in another collective
        raises((weft.Aborted, weft.Mismatch), [], other.barrier)
    other.destroy()


def test_interrupted_creation():
    """Ctrl-C while the others have not come: the program goes on, and makes other communicators."""
    def interrupted(create, *arguments):
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        raises(KeyboardInterrupt, [], create, *arguments)

    with tempfile.TemporaryDirectory() as folder:
        for rank in range(2):
            interrupted(weft.Communicator.from_url, f"file://{folder}/meeting{rank}", rank, 2)
    id = weft.unique_id()
    interrupted(weft.Communicator.from_id, id, 0, 2)
    came = []
    late = threading.Thread(target=lambda: came.append(
        raises(weft.Error, [], lambda: weft.Communicator.from_id(id, 1, 2, timeout=60).barrier())))
    late.start()
    late.join()
    if len(came) != 1:
        sys.exit("who comes after an interrupted creation is not told")
    with weft.Communicator.from_id(weft.unique_id(), 0, 1) as alone:
        alone.barrier()

    caller = []

    def never(part):
        caller.append(threading.current_thread())
        threading.Event().wait()

    interrupted(weft.Communicator.from_allgather, never, 0, 2)  # in the caller's function
    same("thread of the caller's allgather", caller, [threading.main_thread()])
    known = {}

    def stopping(part):  # its first answers are in order, so that the library waits for a rank that does not come
        known.setdefault(len(part), []).append(part)
        return [part, part]

    interrupted(lambda: weft.Communicator.from_allgather(stopping, 0, 2))
    if not known:
        sys.exit("from_allgather has not called the caller's function")


def test_interrupted_split(comm):
    """Ctrl-C while the others have not come to split or shrink: they get an error instead of waiting."""
    token = array.array("i", [0])
    for make in ("split", "shrink"):
        id = bytearray(weft.unique_id() if comm.rank == 0 else 128)
        comm.broadcast(id)
        parent = weft.Communicator.from_id(bytes(id), comm.rank, comm.size, timeout=60)
        create = (lambda: parent.split(0)) if make == "split" else parent.shrink
        if comm.rank == 0:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            raises(KeyboardInterrupt, [], create)
            parent.destroy()
            raises(weft.InvalidArgument, ["destroyed"], create)
            for rank in range(1, comm.size):
                comm.send(token, rank)
        else:
            comm.recv(token, 0)
            raises(weft.Error, [], lambda: create().barrier())
            parent.destroy()


def test_numpy(comm):
    import numpy
    size, rank = comm.size, comm.rank
    for dtype in ("f2", "f4", "f8", "i1", "u2", "i4", "u8", "?", "c8", "c16"):
        x = (numpy.arange(12) % 2 + (1j if dtype[0] == "c" else 0)).astype(dtype).reshape(3, 4)
        out = numpy.empty_like(x)
        comm.all_reduce(x, out)
        expected = x if dtype == "?" else x * numpy.array(size).astype(dtype)
        if not (out == expected).all():
            sys.exit(f"numpy {dtype}: {out}")
    parts = numpy.empty((size, 5), "c16")
    comm.all_gather(numpy.full(5, rank + 1j), parts)
    same("all_gather of complex numbers", parts[:, 0], [r + 1j for r in range(size)])
    raises(weft.InvalidArgument, ["contiguous"], comm.all_reduce, numpy.zeros((4, 4)).T[1:, 1:])
    raises(weft.InvalidArgument, ["foreign byte order"], comm.all_reduce, numpy.zeros(4, ">f4"))
    raises(weft.InvalidArgument, ["datetime"], comm.all_reduce, numpy.zeros(4, "M8[s]"))
    raises(weft.InvalidArgument, ["prod"], comm.all_reduce, numpy.zeros(4, "c8"), op="prod")
    greatest = weft.operation(lambda result, left, right: numpy.maximum(left, right, out=numpy.asarray(result)))
    x = numpy.full(1000, rank, "f4")
    comm.all_reduce(x, op=greatest)
    same("numpy in an operation", x, [size - 1] * 1000)
    x = numpy.frombuffer(weft.alloc(8000), "f8")
    x[:] = rank
    comm.all_reduce(x)
    same("numpy in memory of weft", x, [sum(range(size))] * 1000)
    return f"numpy {numpy.__version__}"


def run_rank(kind):
    if kind == "interrupted":
        test_interrupted_creation()
        print("interrupted creation: good")
        return
    comm = weft.Communicator.from_env(timeout=60)
    if comm.size != int(sys.argv[2]):
        sys.exit(f"{comm.size} ranks, not {sys.argv[2]}")
    if kind == "numpy":
        print(f"rank {comm.rank} of {comm.size}: good with {test_numpy(comm)}")
        comm.destroy()
        return
    choose = random.Random(1)
    for form in ("blocking", "request", "tested", "persistent"):
        for code in "bHiqfd":
            salt = choose.randrange(100)
            test_collectives(comm, form, code, choose.choice([0, 1, 7, 300]), salt)
            test_vectors(comm, form, code, salt)
    test_in_place(comm, "i", 5)
    for test in (test_messages, test_operations, test_communicators, test_refusals, test_memory, test_threads, test_abort,
                 test_interrupts):
        test(comm)
    if comm.size > 1:
        test_interrupted_split(comm)
    comm.destroy()
    if weft._requests.outstanding:
        sys.exit(f"requests left: {weft._requests.outstanding}")
    print(f"rank {comm.rank} of {comm.size}: good")


# ---- the parent ----------------------------------------------------------------------------------------------------------


def finish(processes, what, ranks):
    outputs = [process.communicate(timeout=100)[0] for process in processes]
    good = sum(output.count(": good") for output in outputs)
    if any(process.returncode for process in processes) or good != ranks:
        print("\n".join(outputs))
        sys.exit(f"{what}: {good} of {ranks} ranks are good, exit codes {[p.returncode for p in processes]}")
    print(f"{what}: good", flush=True)


def begin(command, **variables):
    return subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def by_variables(python, kind, ranks):
    with tempfile.TemporaryDirectory() as folder:
        processes = [begin([python, __file__, kind, str(ranks)], RANK=str(rank), WORLD_SIZE=str(ranks),
                           WEFT_RENDEZVOUS=f"file://{folder}/meet") for rank in range(ranks)]
        finish(processes, f"{ranks} ranks by variables, {kind}", ranks)


def check_tables():
    """Names and numbers in the package are those of weft.h."""
    sys.path.insert(0, os.path.join(BUILD, "python"))
    import re
    from weft import _library
    with open("include/weft/weft.h") as file:
        header = file.read()
    statuses = re.findall(r'X\((WEFT_(?:OK|IN_PROGRESS|ERR_\w+)), (\d+), "', header)
    same("statuses", [name for name, _ in statuses], _library.STATUS)
    types = re.findall(r'X\(WEFT_\w+, ([1-9]), "(\w+)"\)', header)
    same("types", [(name, int(size)) for size, name in types], [(name, size) for name, (_, size) in _library.TYPES.items()])
    same("operations", re.findall(r'X\(WEFT_\w+, "(\w+)"\)', header), list(_library.OPS))
    with open("integrations/python/pyproject.toml") as file:
        same("version", re.findall(r'^version = "(.*)"', file.read(), re.M), [_library.version()])


def python_with(modules):
    """A Python that has these modules, or None."""
    for python in (sys.executable, "/usr/bin/python3"):
        if os.path.exists(python) and subprocess.run([python, "-c", f"import {modules}"], capture_output=True).returncode == 0:
            return python
    return None


def installed():
    """pip installs the package with its library; it is imported from there."""
    python = python_with("setuptools, wheel, pip")
    if not python:
        print("skipped: pip, setuptools or wheel (packages python3-pip, python3-setuptools, python3-wheel) is not there")
        return
    with tempfile.TemporaryDirectory() as folder:
        # A copy, as setuptools leaves its own folders beside the package.
        shutil.copytree(os.path.join(BUILD, "python"), os.path.join(folder, "source"))
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
                        "--disable-pip-version-check", "--root-user-action=ignore", "--target", os.path.join(folder, "target"),
                        os.path.join(folder, "source")], check=True)
        script = "import weft; print(weft.__file__, weft._library.lib._name, weft.Communicator.from_env().size, ': good')"
        output = subprocess.run([python, "-c", script], env={**os.environ, "PYTHONPATH": os.path.join(folder, "target")},
                                capture_output=True, text=True, check=True, cwd=folder).stdout
        if output.count(os.path.join(folder, "target", "weft")) != 2 or ": good" not in output:
            sys.exit(f"installed by pip: {output}")
    print("installed by pip: good")


def main():
    if BUILD.endswith(("asan", "tsan")):
        print("a sanitizer build of the library cannot be loaded by Python")
        return 77
    check_tables()
    own = sys.executable
    finish([begin([own, __file__, "plain", "1"])], "one rank alone", 1)
    by_variables(own, "plain", 3)
    finish([begin([own, __file__, "interrupted"])], "interrupted creation", 1)
    mpirun = shutil.which("mpirun.openmpi")
    if mpirun:
        finish([begin([mpirun, "--oversubscribe", "-n", "2", own, __file__, "plain", "2"])], "mpirun", 2)
    else:
        print("skipped: mpirun (package openmpi-bin) is not there")
    python = python_with("numpy")
    if python:
        by_variables(python, "numpy", 2)
    else:
        print("skipped: numpy (package python3-numpy) is not there")
    installed()
    return 0


if len(sys.argv) > 1:
    run_rank(sys.argv[1])
else:
    sys.exit(main())
