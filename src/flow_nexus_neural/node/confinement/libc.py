"""System calls that the standard library does not offer, through the C library.

Symbols are resolved at import, because a confined node cannot load a library or a module any more.
"""

import ctypes
import errno
import os
from typing import Final

from flow_nexus_neural.node.confinement.syscalls import this_machine

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_SYSCALL: Final = _LIBC.syscall
_SYSCALL.restype = ctypes.c_long
_MACHINE: Final = this_machine()

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

Argument = int | bytes | ctypes.Array[ctypes.c_char] | ctypes.Structure | None


def _native(argument: Argument) -> object:
    # Without c_long, ctypes would pass a Python int as a 32-bit C int and cut addresses in half.
    if isinstance(argument, int):
        return ctypes.c_long(argument)
    if isinstance(argument, ctypes.Structure):
        return ctypes.byref(argument)
    return argument


def syscall(name: str, *arguments: Argument) -> int:
    """Call the kernel directly. Integers go as C longs, structures by reference.

    Raises:
        OSError: With the kernel's errno; ENOSYS when there is no number for `name` on this machine.
    """
    number = None if _MACHINE is None else _MACHINE.numbers.get(name)
    if number is None:
        raise OSError(errno.ENOSYS, f"no number for {name} on this machine")
    result = int(_SYSCALL(ctypes.c_long(number), *(_native(a) for a in arguments)))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def prctl(option: int, *arguments: int) -> int:
    """`prctl(2)` with every unused argument 0, as newer options demand.

    Raises:
        OSError: With the kernel's errno.
    """
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return syscall("prctl", option, *padded)


def wipe_environment_strings() -> None:
    """Overwrite the C strings of the environment with zeros; `unsetenv` leaves them in memory."""
    entries = ctypes.POINTER(ctypes.c_void_p).in_dll(_LIBC, "environ")
    index = 0
    while entries and entries[index]:
        ctypes.memset(entries[index], 0, len(ctypes.string_at(entries[index])))
        index += 1
