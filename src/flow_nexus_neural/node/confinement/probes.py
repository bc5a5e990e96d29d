"""Self-test of a confined node: it attempts each forbidden operation and reports the errno.

A probe that succeeds does no harm. Some probes pass arguments that an unfiltered kernel refuses as well, but
with another errno, so that the reported errno still tells whether the filter works.
"""

import ctypes
import errno
import os
import resource
import select
import signal
from collections.abc import Callable
from typing import Final

from flow_nexus_neural.node.confinement.libc import syscall
from flow_nexus_neural.node.confinement.steps import errno_name
from flow_nexus_neural.settings import Hostile

_AF_UNIX: Final = 1
_AF_INET: Final = 2
_SOCK_STREAM: Final = 1
_AT_FDCWD: Final = -100
_PAGE_BYTES: Final = 4096
_PROT_READ: Final = 1
_PROT_READ_WRITE: Final = 3
_PROT_READ_EXEC: Final = 5
_MSG_OOB: Final = 1
_CLONE_THREAD: Final = 0x1_0000
_FUTEX_WAKE: Final = 1
_MAP_SHARED_ANONYMOUS: Final = 0x21
_MAP_PRIVATE_ANONYMOUS: Final = 0x22
_MAP_STACK_LIKE: Final = 0x122
_SCAN_DESCRIPTORS: Final = 1024
_POLLED_AT_ONCE: Final = 32  # never more than RLIMIT_NOFILE
_OWN_DESCRIPTORS: Final = 2
"""The engine's socket and the stderr pipe: all that a node holds before its first grant."""


class _ResourceLimit(ctypes.Structure):
    _fields_ = (("soft", ctypes.c_uint64), ("hard", ctypes.c_uint64))


def _pollers() -> list[tuple[range, select.poll]]:
    """Prepare poll() over every descriptor number; it reports POLLNVAL for a closed one.

    Cheaper than one call per descriptor, and poll is among the few calls that the policy allows.
    """
    pollers = []
    for first in range(0, _SCAN_DESCRIPTORS, _POLLED_AT_ONCE):
        descriptors = range(first, first + _POLLED_AT_ONCE)
        poller = select.poll()
        for descriptor in descriptors:
            poller.register(descriptor, 0)
        pollers.append((descriptors, poller))
    return pollers


# Created before the fork: doing this in each child would cost a tenth of a node's start time.
_POLLERS: Final = _pollers()
_PAIR: Final = ctypes.create_string_buffer(8)
_STAT: Final = ctypes.create_string_buffer(512)
_WORD: Final = ctypes.create_string_buffer(4)
_WORDS: Final = ctypes.create_string_buffer(16)


def run_linux_probes(*, hostile: Hostile = "errno") -> dict[str, str]:
    """Run every probe once.

    Args:
        hostile: Under `kill` the probes that would end the node are left out.

    Returns:
        By probe: the errno's name, or `allowed`.
    """
    results: dict[str, str] = {}
    for name, probe in _PROBES.items():
        if hostile == "kill" and name in _FATAL_UNDER_KILL:
            continue
        results[name] = _outcome(probe)
    return results


def _outcome(probe: Callable[[], int | None]) -> str:
    try:
        probe()
    except OSError as failure:
        return errno_name(failure)
    return "allowed"


def _open() -> None:
    os.close(os.open("/", os.O_RDONLY))


def _socket() -> None:
    os.close(syscall("socket", _AF_INET, _SOCK_STREAM, 0))


def _socketpair() -> None:
    syscall("socketpair", _AF_UNIX, _SOCK_STREAM, 0, _PAIR)
    for end in (_PAIR.raw[:4], _PAIR.raw[4:]):
        os.close(int.from_bytes(end, "little"))


def _fork() -> None:
    child = syscall("clone", signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _memfd() -> None:
    os.close(syscall("memfd_create", b"probe\0", 0))


def _raise_rlimit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The present values again: without a filter a permitted no-op.
    syscall("prlimit64", 0, resource.RLIMIT_NOFILE, _ResourceLimit(soft, hard), None)


def _map(protection: int, flags: int) -> None:
    address = syscall("mmap", 0, _PAGE_BYTES, protection, flags, -1, 0)
    syscall("munmap", address, _PAGE_BYTES)


def _hold_a_third_descriptor() -> None:
    held = 0
    for descriptors, poller in _POLLERS:
        closed = sum(1 for _, event in poller.poll(0) if event & select.POLLNVAL)
        held += len(descriptors) - closed
    if held <= _OWN_DESCRIPTORS:
        raise OSError(errno.EBADF, "nothing but the own two")


_PROBES: Final[dict[str, Callable[[], int | None]]] = {
    "open": _open,
    "stat": lambda: syscall("newfstatat", _AT_FDCWD, b"/\0", _STAT, 0),
    "socket": _socket,
    "socketpair": _socketpair,
    # Descriptors that do not exist: without a filter EBADF.
    "sendmsg": lambda: syscall("sendmsg", -1, None, 0),
    "fork": _fork,
    "out_of_band": lambda: syscall("sendto", -1, None, 0, _MSG_OOB, None, 0),
    "shared_position": lambda: syscall("lseek", -1, 0, 0),
    # Flags that contradict each other: without a filter EINVAL.
    "thread": lambda: syscall("clone", _CLONE_THREAD, 0, 0, 0, 0),
    # Wakes no thread: without a filter a permitted no-op.
    "shared_futex": lambda: syscall("futex", _WORD, _FUTEX_WAKE, 1, None, None, 0),
    "clock_of_parent": lambda: syscall("clock_gettime", (~os.getppid() << 3) | 2, _WORDS),
    # A null path: without a filter EFAULT.
    "execve": lambda: syscall("execve", None, None, None),
    "memfd_create": _memfd,
    # Attach to process 0: without a filter ESRCH.
    "ptrace": lambda: syscall("ptrace", 16, 0, 0, 0),
    "kill_parent": lambda: syscall("kill", os.getppid(), 0),
    "raise_rlimit": _raise_rlimit,
    # No flag: without a filter a permitted no-op.
    "unshare": lambda: syscall("unshare", 0),
    "dumpable": lambda: syscall("prctl", 4, 1, 0, 0, 0),
    "bpf": lambda: syscall("bpf", -1, None, 0),
    "exec_memory": lambda: _map(_PROT_READ_EXEC, _MAP_PRIVATE_ANONYMOUS),
    "shared_memory": lambda: _map(_PROT_READ_WRITE, _MAP_SHARED_ANONYMOUS),
    "stack_memory": lambda: _map(_PROT_READ_WRITE, _MAP_STACK_LIKE),
    # No pages at all: without a filter a permitted no-op.
    "read_only_memory": lambda: syscall("mprotect", 0, 0, _PROT_READ),
    # No bytes: without a filter EINVAL.
    "enlarge_memory": lambda: syscall("mremap", 0, 0, 0, 0, 0),
    "io_uring": lambda: syscall("io_uring_setup", 0, None),
    "third_descriptor": _hold_a_third_descriptor,
}
_FATAL_UNDER_KILL: Final = frozenset({"execve", "ptrace", "unshare", "bpf"})
