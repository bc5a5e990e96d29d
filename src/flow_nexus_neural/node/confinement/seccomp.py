"""Installs the seccomp filter, the last step: afterwards only the system calls of the policy work."""

import ctypes
import os
from struct import Struct, pack_into
from typing import Final, NamedTuple

from flow_nexus_neural.node.confinement import bpf
from flow_nexus_neural.node.confinement.libc import syscall
from flow_nexus_neural.node.confinement.syscalls import Machine, this_machine
from flow_nexus_neural.settings import Hostile

_SET_MODE_FILTER: Final = 1
_FLAG_TSYNC: Final = 1
_INSTRUCTION: Final = Struct("=HBBI")
_K_OFFSET: Final = 4
_UNKNOWN_PID: Final = 0xFFFF_FFFF


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class _Template(NamedTuple):
    """A compiled filter with a placeholder for the process id.

    Compiled before the fork, to keep node starts short; the child fills in its id in its own copy.
    """

    code: ctypes.Array[ctypes.c_char]
    pid_offsets: tuple[int, ...]


def _prepare(machine: Machine, hostile: Hostile) -> _Template:
    program = bpf.compile_policy(machine, own_pid=_UNKNOWN_PID, hostile=hostile)
    packed = b"".join(_INSTRUCTION.pack(*line) for line in program)
    return _Template(
        ctypes.create_string_buffer(packed, len(packed)),
        tuple(
            index * _INSTRUCTION.size + _K_OFFSET
            for index, line in enumerate(program)
            if line.k == _UNKNOWN_PID
        ),
    )


_MACHINE: Final = this_machine()
_TEMPLATES: Final[dict[Hostile, _Template]] = (
    {}
    if _MACHINE is None
    else {"errno": _prepare(_MACHINE, "errno"), "kill": _prepare(_MACHINE, "kill")}
)


def install_filter(*, hostile: Hostile) -> str:
    """Install the policy's filter for every thread of this process, irrevocably.

    Returns:
        `allow-list`, or why there is no filter for this machine.

    Raises:
        OSError: If the kernel has no seccomp filters or refuses this one.
    """
    template = _TEMPLATES.get(hostile)
    if template is None:
        return "no table for this machine"
    for offset in template.pid_offsets:
        pack_into("=I", template.code, offset, os.getpid())
    program = _Program(len(template.code) // _INSTRUCTION.size, ctypes.addressof(template.code))
    # With TSYNC the call returns 0, or the id of a thread that could not take over the filter.
    unconfined_thread = syscall("seccomp", _SET_MODE_FILTER, _FLAG_TSYNC, program)
    if unconfined_thread:
        raise OSError(f"thread {unconfined_thread} could not be confined")
    return "allow-list"
