"""What an attack is."""

import ctypes
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from flow_nexus_neural.node.confinement.syscalls import this_machine
from tests.security.stage import Stage

Code = Callable[[Stage], object]

_X86_64 = {
    "access": 21,
    "capget": 125,
    "fadvise64": 221,
    "fallocate": 285,
    "fgetxattr": 193,
    "flock": 73,
    "fsync": 74,
    "futex_waitv": 449,
    "futex_wake": 454,
    "getgroups": 115,
    "mincore": 27,
    "move_pages": 279,
    "munlockall": 152,
    "pkey_mprotect": 329,
    "preadv2": 327,
    "sched_getattr": 315,
    "sched_rr_get_interval": 148,
    "sched_setscheduler": 144,
    "sendfile": 40,
    "setitimer": 38,
    "bind": 49,
    "capset": 126,
    "chmod": 90,
    "clock_settime": 227,
    "creat": 85,
    "dup2": 33,
    "init_module": 175,
    "getsockopt": 55,
    "ioprio_set": 251,
    "kexec_load": 246,
    "link": 86,
    "mknod": 133,
    "mlock": 149,
    "mq_open": 240,
    "mq_unlink": 241,
    "msgctl": 71,
    "msgget": 68,
    "name_to_handle_at": 303,
    "pipe2": 293,
    "readlink": 89,
    "reboot": 169,
    "rt_sigqueueinfo": 129,
    "sched_setaffinity": 203,
    "semctl": 66,
    "semget": 64,
    "sendmmsg": 307,
    "setpriority": 141,
    "shmctl": 31,
    "statx": 332,
    "swapon": 167,
    "syslog": 103,
    "timer_create": 222,
    "truncate": 76,
    "vmsplice": 278,
}
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long


@dataclass(frozen=True)
class Attack:
    """Code that a node runs, how it must end there, and the proof that it works elsewhere.

    Attributes:
        kind: Its class of the threat model.
        code: Raises OSError when it is refused; returns when it got through.
        expected: Outcomes under full confinement that count as blocked.
        control: Code that must succeed without confinement; None: the attack's own code.
        no_control: Why nothing is run without confinement.
        keep_fds: Descriptors it holds inside, besides its report.
        by_namespaces: Only namespaces block it, so that it gets through where they cannot be had.
    """

    kind: str
    name: str
    code: Code
    expected: Collection[str] = ("EPERM",)
    control: Code | None = None
    no_control: str = ""
    keep_fds: Callable[[Stage], Collection[int]] = field(default=lambda stage: stage.granted)

    by_namespaces: bool = False

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.name.replace(' ', '_')}"


def number_of(name: str) -> int:
    machine = this_machine()
    if machine is not None and name in machine.numbers:
        return machine.numbers[name]
    if os.uname().machine == "x86_64" and name in _X86_64:
        return _X86_64[name]
    raise LookupError(name)


def kernel(name_or_number: str | int, *arguments: object) -> int:
    """A system call with the C library as the only thing in between."""
    number = name_or_number if isinstance(name_or_number, int) else number_of(name_or_number)
    native = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = _LIBC.syscall(ctypes.c_long(number), *native)
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def c_call(name: str, *arguments: object) -> int:
    """A function of the C library that returns an int and sets errno."""
    function = getattr(_LIBC, name)
    result = function(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def map_memory(nbytes: int, protection: int, flags: int, descriptor: int = -1) -> int:
    return kernel("mmap", 0, nbytes, protection, flags, descriptor, 0)


def machine_code(code: bytes) -> int:
    """Put instructions into a fresh page, make it executable, call it and return what it returns."""
    page = map_memory(4096, 3, 0x22)
    ctypes.memmove(page, code, len(code))
    kernel("mprotect", page, 4096, 7)
    return int(ctypes.CFUNCTYPE(ctypes.c_long)(page)())
