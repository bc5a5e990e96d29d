"""Reads what the kernel says of another process's memory."""

from pathlib import Path


def resident_bytes(pid: int) -> int | None:
    """VmRSS: readable for every process, shared pages counted in full. None when it is gone or unknown."""
    return _kilobytes(pid, "status", "VmRSS:")


def proportional_bytes(pid: int) -> int | None:
    """PSS: shared pages divided among their users. None when the process may not be inspected."""
    return _kilobytes(pid, "smaps_rollup", "Pss:")


def _kilobytes(pid: int, table: str, field: str) -> int | None:
    try:
        text = Path(f"/proc/{pid}/{table}").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return None
