"""Reads from /proc whether a process of another program can run at all."""

from pathlib import Path

_STOPPED = frozenset("Tt")
"""Stopped by a signal, or by a tracer; see proc_pid_stat(5)."""


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, so that it answers nothing; False where that cannot be told."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    # The name before it stands in brackets and may hold anything.
    return text.rpartition(")")[2].split()[:1] in ([state] for state in _STOPPED)
