"""The step on Windows: a job object for this process alone. UNTESTED: written from documentation.

The job forbids child processes, caps committed memory and CPU time, and ends when its last handle, held by
the node itself, is closed. It restricts neither files nor the network.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Collection
from typing import Final

from flow_nexus_neural.node.confinement.steps import ORPHANED_STATUS, Limits, Steps, opportunistic
from flow_nexus_neural.settings import Hostile

_EXTENDED_LIMIT_INFORMATION: Final = 9
_LIMIT_PROCESS_TIME: Final = 0x0002
_LIMIT_ACTIVE_PROCESS: Final = 0x0008
_LIMIT_PROCESS_MEMORY: Final = 0x0100
_LIMIT_DIE_ON_UNHANDLED_EXCEPTION: Final = 0x0400
_LIMIT_KILL_ON_JOB_CLOSE: Final = 0x2000
_TICKS_PER_S: Final = 10_000_000
_MB: Final = 1 << 20


class _BasicLimits(ctypes.Structure):
    _fields_ = (
        ("process_time", ctypes.c_int64),
        ("job_time", ctypes.c_int64),
        ("flags", ctypes.c_uint32),
        ("minimum_working_set", ctypes.c_size_t),
        ("maximum_working_set", ctypes.c_size_t),
        ("active_processes", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("priority_class", ctypes.c_uint32),
        ("scheduling_class", ctypes.c_uint32),
    )


class _ExtendedLimits(ctypes.Structure):
    _fields_ = (
        ("basic", _BasicLimits),
        ("io_counters", ctypes.c_uint64 * 6),
        ("process_memory", ctypes.c_size_t),
        ("job_memory", ctypes.c_size_t),
        ("peak_process_memory", ctypes.c_size_t),
        ("peak_job_memory", ctypes.c_size_t),
    )


def confine_windows(granted: Limits, *, keep_fds: Collection[int], expected_ppid: int) -> Steps:
    """Confine this process; see `apply.confine`. On other systems the step reports ENOSYS.

    `keep_fds` is ignored: on Windows a child inherits only the handles that its parent names.
    """
    del keep_fds
    if os.getppid() != expected_ppid:
        os._exit(ORPHANED_STATUS)
    return {
        "platform": sys.platform,
        "job_object": opportunistic(lambda: _enter_job(granted)),
        "memory_mb": granted.memory_mb,
        "cpu_s": granted.cpu_s,
    }


def run_windows_probes(*, hostile: Hostile = "errno") -> dict[str, str]:  # noqa: ARG001 - one signature
    """Return no probes: a job forbids no access, and `IsProcessInJob` already confirms the limits."""
    return {}


def _enter_job(granted: Limits) -> bool:
    """Put this process into its own job; True if the system confirms it.

    Raises:
        OSError: If the system refuses, or is not Windows.
    """
    if sys.platform == "win32":
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.CreateJobObjectW.restype = ctypes.c_void_p
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        job = ctypes.c_void_p(kernel.CreateJobObjectW(None, None))
        process = ctypes.c_void_p(kernel.GetCurrentProcess())
        limits = _job_limits(granted)
        inside = ctypes.c_int(0)
        done = (
            kernel.SetInformationJobObject(
                job, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), ctypes.sizeof(limits)
            )
            and kernel.AssignProcessToJobObject(job, process)
            and kernel.IsProcessInJob(process, job, ctypes.byref(inside))
        )
        if not done:
            raise ctypes.WinError(ctypes.get_last_error())
        return bool(inside.value)
    raise OSError(errno.ENOSYS, "job objects exist on Windows only")


def _job_limits(granted: Limits) -> _ExtendedLimits:
    limits = _ExtendedLimits(process_memory=granted.memory_mb * _MB)
    limits.basic.process_time = granted.cpu_s * _TICKS_PER_S
    limits.basic.active_processes = 1
    limits.basic.flags = (
        _LIMIT_PROCESS_TIME
        | _LIMIT_ACTIVE_PROCESS
        | _LIMIT_PROCESS_MEMORY
        | _LIMIT_DIE_ON_UNHANDLED_EXCEPTION
        | _LIMIT_KILL_ON_JOB_CLOSE
    )
    return limits
