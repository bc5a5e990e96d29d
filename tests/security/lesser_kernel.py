"""Runs a command as on a kernel that refuses some calls.

python -I lesser_kernel.py call=ERRNO[,call=ERRNO...] command...
"""

import ctypes
import errno
import os
import sys
from struct import pack

from flow_nexus_neural.node.confinement import bpf, libc
from flow_nexus_neural.node.confinement.syscalls import this_machine

NO_NEW_PRIVS, SET_MODE_FILTER = 38, 1


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse(calls):
    """Make calls fail, in this process and all that comes of it."""
    numbers = this_machine().numbers
    code = pack("=HBBI", bpf.LOAD, 0, 0, bpf.NUMBER_OFFSET)
    for name, code_name in calls.items():
        code += pack("=HBBI", bpf.EQUAL, 0, 1, numbers[name])
        code += pack("=HBBI", bpf.RETURN, 0, 0, bpf.ERRNO | getattr(errno, code_name))
    code += pack("=HBBI", bpf.RETURN, 0, 0, bpf.ALLOW)
    held = ctypes.create_string_buffer(code, len(code))
    libc.prctl(NO_NEW_PRIVS, 1)
    libc.syscall("seccomp", SET_MODE_FILTER, 0, Program(len(code) // 8, ctypes.addressof(held)))


if __name__ == "__main__":
    refuse(dict(pair.split("=") for pair in sys.argv[1].split(",")))
    os.execv(sys.argv[2], sys.argv[2:])
