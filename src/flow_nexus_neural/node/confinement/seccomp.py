"""Installs the filter. The last step: afterwards the node can only do what the policy names."""

import ctypes
import os
from typing import Final

from flow_nexus_neural.node.confinement import bpf, policy
from flow_nexus_neural.node.confinement.libc import syscall
from flow_nexus_neural.node.confinement.syscalls import Machine

_SET_MODE_FILTER: Final = 1
_FLAG_TSYNC: Final = 1


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install_filter(machine: Machine, *, hostile: policy.Hostile) -> str:
    """Confine every thread of this process to the policy, for good.

    Returns:
        `allow-list`.

    Raises:
        OSError: If the kernel has no seccomp filters or refuses this one.
    """
    program = bpf.compile_policy(machine, own_pid=os.getpid(), hostile=hostile)
    instructions = (_Instruction * len(program))(*(_Instruction(*line) for line in program))
    header = _Program(len(program), ctypes.addressof(instructions))
    straggler = syscall("seccomp", _SET_MODE_FILTER, _FLAG_TSYNC, header)
    if straggler:
        raise OSError(f"thread {straggler} could not be confined")
    return "allow-list"
