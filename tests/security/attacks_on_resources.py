"""Classes: resources, leaks."""

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal

from tests.security.attack import Attack, kernel, map_memory
from tests.security.stage import PAGE, SECRET, SECRET_NAME, Stage

_GB = 1 << 30
_MB = 1 << 20
_READ_WRITE = 3
_PRIVATE = 0x22
_SHARED = 0x21
_GROWS_DOWN = 0x122
_NO_RESERVE = 0x4000


def _touch(nbytes: int, flags: int) -> None:
    """Map memory and write one byte of every page."""
    address = map_memory(nbytes, _READ_WRITE, flags)
    for offset in range(0, nbytes, PAGE):
        ctypes.memset(address + offset, 1, 1)
    kernel("munmap", address, nbytes)


def _make_writable_later(stage: Stage) -> None:
    """Reserve without rights, which costs no limit, then ask for the rights."""
    address = map_memory(_GB, 0, _PRIVATE | _NO_RESERVE)
    kernel("mprotect", address, _GB, _READ_WRITE)
    kernel("munmap", address, _GB)


def _fill_and_protect(nbytes: int) -> None:
    """Written pages that are made read-only leave the limit, so that there is room for more of them."""
    for _ in range(0, nbytes, 32 * _MB):
        address = map_memory(32 * _MB, _READ_WRITE, _PRIVATE)
        ctypes.memset(address, 1, 32 * _MB)
        kernel("mprotect", address, 32 * _MB, 1)


def _stack_address() -> int:
    with open("/proc/self/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[25]) // PAGE * PAGE


STACK = _stack_address()


def _enlarge_the_stack(nbytes: int) -> None:
    address = kernel("mremap", STACK - 8 * PAGE, PAGE, nbytes, 1)
    ctypes.memset(address, 1, nbytes)


def _crawl_down_the_stack(nbytes: int) -> None:
    """The limit holds for each part of a split stack, and the lowest part may grow."""
    step = 7 * _MB
    for n, low in enumerate(range(STACK - step, STACK - nbytes, -step)):
        ctypes.memset(low, 1, 1)
        kernel("mprotect", low, PAGE, (7, 3)[n % 2])


_ARRIVED: list[int] = []
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)(_ARRIVED.append)
_SET_HANDLER = ctypes.CDLL(None).signal


def _queue_signals(stage: Stage) -> None:
    """As many as the system keeps for this user, whom other processes share."""
    _SET_HANDLER(signal.SIGRTMIN, _HANDLER)
    blocked = ctypes.c_uint64(1 << (signal.SIGRTMIN - 1))
    kernel("rt_sigprocmask", signal.SIG_BLOCK, ctypes.byref(blocked), None, 8)
    for _ in range(100):
        os.kill(os.getpid(), signal.SIGRTMIN)
    kernel("rt_sigprocmask", signal.SIG_UNBLOCK, ctypes.byref(blocked), None, 8)
    if len(_ARRIVED) <= 1:  # a signal that cannot be queued is marked as pending, once
        raise OSError(errno.EAGAIN, "not queued")


def _python_list(stage: Stage) -> None:
    blocks = [bytes(64 * _MB) for _ in range(12)]
    blocks.clear()


def _fill_descriptors(stage: Stage) -> None:
    for _ in range(100):
        fcntl.fcntl(stage.node_socket, fcntl.F_DUPFD, 0)


def _lock_memory(stage: Stage) -> None:
    address = map_memory(4096, _READ_WRITE, _PRIVATE)
    kernel("mlock", address, 4096)


def _raise_limit(kind: int) -> None:
    limit = (ctypes.c_uint64 * 2)(1 << 40, 1 << 40)
    kernel("prlimit64", 0, kind, limit, None)


def _limit_of_the_server(stage: Stage) -> None:
    limit = (ctypes.c_uint64 * 2)()
    kernel("prlimit64", stage.server_pid, resource.RLIMIT_NOFILE, None, limit)


def _write_file_bytes(stage: Stage) -> None:
    os.write(stage.unsealed, b"x" * PAGE)


RESOURCES = [
    Attack(
        "resources",
        "touch a gigabyte",
        lambda _: _touch(_GB, _PRIVATE),
        ("ENOMEM",),
        control=lambda _: _touch(320 * _MB, _PRIVATE),
    ),
    Attack(
        "resources",
        "allocate from python",
        _python_list,
        ("MemoryError",),
    ),
    Attack(
        "resources",
        "reserve fifty gigabytes",
        lambda _: map_memory(50 * _GB, 0, _PRIVATE | _NO_RESERVE),
        ("ENOMEM",),
    ),
    Attack("resources", "make reserved memory writable", _make_writable_later, ("ENOMEM",)),
    Attack(
        "resources",
        "shared memory that no limit counts",
        lambda _: _touch(_GB, _SHARED),
        control=lambda _: _touch(16 * _MB, _SHARED),
    ),
    Attack(
        "resources",
        "stack memory that no limit counts",
        lambda _: _touch(_GB, _GROWS_DOWN),
        control=lambda _: _touch(16 * _MB, _GROWS_DOWN),
    ),
    Attack(
        "resources",
        "written memory made read-only",
        lambda _: _fill_and_protect(_GB),
        control=lambda _: _fill_and_protect(64 * _MB),
    ),
    Attack(
        "resources",
        "enlarge the stack",
        lambda _: _enlarge_the_stack(_GB),
        control=lambda _: _enlarge_the_stack(32 * _MB),
    ),
    Attack(
        "resources", "crawl down the stack", lambda _: _crawl_down_the_stack(64 * _MB), ("SIGSEGV",)
    ),
    Attack("resources", "use up the users signals", _queue_signals, ("EAGAIN",)),
    Attack("resources", "fill the descriptor table", _fill_descriptors),
    Attack(
        "resources",
        "duplicate above the limit",
        lambda stage: kernel("dup2", stage.node_socket.fileno(), 900),
    ),
    Attack("resources", "lock memory", _lock_memory),
    Attack(
        "resources",
        "take the systems huge pages",
        lambda _: map_memory(2 * _MB, _READ_WRITE, _PRIVATE | 0x4_0000),
        no_control="succeeds only where huge pages were set aside",
    ),
    Attack("resources", "raise the memory limit", lambda _: _raise_limit(resource.RLIMIT_DATA)),
    Attack("resources", "raise the processor limit", lambda _: _raise_limit(resource.RLIMIT_CPU)),
    Attack("resources", "read the servers limits", _limit_of_the_server),
    Attack(
        "resources",
        "write into a memory file",
        _write_file_bytes,
        ("EFBIG",),  # the interpreter ignores SIGXFSZ
        keep_fds=lambda stage: (stage.unsealed,),
    ),
]


def _find_descriptor(stage: Stage) -> None:
    fcntl.fcntl(stage.leaked_fd, fcntl.F_GETFD)


def _scan_descriptors(stage: Stage) -> None:
    held = 0
    for descriptor in range(1024):
        try:
            fcntl.fcntl(descriptor, fcntl.F_GETFD)
        except OSError:
            continue
        held += 1
    if held <= len(stage.granted) + 2:
        raise OSError(errno.EBADF, "only what was granted")


def _read_environment(stage: Stage) -> None:
    if os.environ.get(SECRET_NAME) == SECRET:
        return
    raise OSError(errno.ENOENT, "no such variable")


def _read_c_environment(stage: Stage) -> None:
    entries = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    index = 0
    while entries and entries[index]:
        if entries[index].startswith(SECRET_NAME.encode()):
            return
        index += 1
    raise OSError(errno.ENOENT, "no such variable")


def _write_memory(descriptor: int) -> None:
    os.write(descriptor, b"x")


def _set_shared_flags(descriptor: int) -> None:
    kernel("fcntl", descriptor, fcntl.F_SETFL, os.O_NONBLOCK)
    kernel("fcntl", descriptor, fcntl.F_SETFL, 0)


def _wake_on_page(descriptor: int) -> None:
    """Both ends of a bell: any holder of the page may wait where this one wakes."""
    kernel("futex", map_memory(PAGE, 1, mmap.MAP_SHARED, descriptor), 1, 1, None, None, 0)


def _map_writable(descriptor: int) -> None:
    ctypes.memset(map_memory(PAGE, _READ_WRITE, mmap.MAP_SHARED, descriptor), 1, 1)


def _make_map_writable(descriptor: int) -> None:
    address = map_memory(PAGE, 1, mmap.MAP_SHARED, descriptor)
    kernel("mprotect", address, PAGE, _READ_WRITE)


def _write_read_only_map(descriptor: int) -> None:
    ctypes.memset(map_memory(PAGE, 1, mmap.MAP_SHARED, descriptor), 1, 1)


_STAT = ctypes.create_string_buffer(512)


def _on_memory(name: str, action, expected, view: str, control=None) -> Attack:
    """Control: the same on memory that is not sealed."""
    return Attack(
        "leaks",
        name,
        lambda stage: action(getattr(stage, view)),
        expected,
        control=lambda stage: (control or action)(stage.unsealed),
    )


LEAKS = [
    Attack("leaks", "use a leaked descriptor", _find_descriptor, ("EBADF",)),
    Attack("leaks", "find further descriptors", _scan_descriptors, ("EBADF",)),
    Attack("leaks", "read the environment", _read_environment, ("ENOENT",)),
    Attack("leaks", "read the environment of c", _read_c_environment, ("ENOENT",)),
    _on_memory("write a data set", _write_memory, ("EPERM", "EFBIG"), "dataset"),
    _on_memory("map a data set writable", _map_writable, ("EPERM",), "dataset"),
    _on_memory("make a data sets map writable", _make_map_writable, ("EACCES",), "dataset"),
    _on_memory(
        "write through a data sets map",
        _write_read_only_map,
        ("SIGSEGV",),
        "dataset",
        _map_writable,
    ),
    _on_memory(
        "read at a data sets shared position", lambda fd: os.read(fd, 1), ("EPERM",), "dataset"
    ),
    _on_memory(
        "move a data sets shared position", lambda fd: os.lseek(fd, 7, 0), ("EPERM",), "dataset"
    ),
    _on_memory("set a data sets shared flags", _set_shared_flags, ("EPERM",), "dataset"),
    _on_memory(
        "switch a data sets blocking", lambda fd: os.set_blocking(fd, True), ("ENOTTY",), "dataset"
    ),
    _on_memory(
        "see a data sets times", lambda fd: kernel("fstat", fd, _STAT), ("EPERM",), "dataset"
    ),
    _on_memory("lock a data set", lambda fd: fcntl.flock(fd, fcntl.LOCK_SH), ("EPERM",), "dataset"),
    _on_memory("wake who waits on a data sets page", _wake_on_page, ("EPERM",), "dataset"),
    _on_memory("truncate a data set", lambda fd: os.ftruncate(fd, 0), ("EPERM",), "dataset"),
    _on_memory(
        "add a seal", lambda fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 1), ("EPERM",), "neighbour_view"
    ),
    _on_memory("write a neighbours view", _write_memory, ("EBADF",), "neighbour_view"),
    _on_memory("map a neighbours view writable", _map_writable, ("EACCES",), "neighbour_view"),
    _on_memory("make a neighbours map writable", _make_map_writable, ("EACCES",), "neighbour_view"),
]

ATTACKS = [*RESOURCES, *LEAKS]
