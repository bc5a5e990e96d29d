"""Reads from /proc whether a process of another program can run at all, and whether it gets to."""

from pathlib import Path

from flow_nexus_neural.runtime.base import ProcessorTime

_STOPPED = frozenset("Tt")
"""Stopped by a signal, or by a tracer; see proc_pid_stat(5)."""


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, so that it answers nothing; False where that cannot be told."""
    return _state(pid) in _STOPPED


def processor_time(pid: int) -> ProcessorTime | None:
    """What a process's first thread got of the processors; None where that cannot be told.

    Source: the kernel's Documentation/scheduler/sched-stats.rst, on /proc/<pid>/schedstat.
    """
    try:
        text = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii")
        ran_ns, waited_ns = map(int, text.split()[:2])
    except (OSError, ValueError):
        return None
    return ProcessorTime(ran_ns / 1e9, waited_ns / 1e9, runnable=_state(pid) == "R")


def _state(pid: int) -> str:
    """One letter; empty where it cannot be read."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    # The name before it stands in brackets and may hold anything.
    return text.rpartition(")")[2].strip()[:1]
