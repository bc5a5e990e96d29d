"""Reads the memory use of other processes, and counts out-of-memory kills, from /proc and control groups."""

from collections.abc import Sequence
from pathlib import Path


def resident_bytes(pid: int) -> int | None:
    """VmRSS: readable for every process, shared pages counted in full. None if the process has ended."""
    return _kilobytes(pid, "status", "VmRSS:")


def proportional_bytes(pid: int) -> int | None:
    """PSS: shared pages divided among their users. None if the process may not be inspected."""
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


class OutOfMemoryKills:
    """Counts the kernel's out-of-memory kills, to distinguish them from other SIGKILLs.

    The count is that of this process's memory cgroup, which nodes share, or of the whole machine if that is
    not readable. Each kill is attributed to one node only.

    Args:
        sources: Files with a line `oom_kill <count>`, best first.
    """

    def __init__(self, sources: Sequence[Path] | None = None) -> None:
        self._sources = tuple(_count_files() if sources is None else sources)
        self._claimed = self._count()

    def claim(self) -> bool:
        """Whether there is an out-of-memory kill that is not yet attributed; attributes it to the caller."""
        if self._count() <= self._claimed:
            return False
        self._claimed += 1
        return True

    def _count(self) -> int:
        for source in self._sources:
            try:
                lines = source.read_text(encoding="ascii").splitlines()
            except OSError:
                continue
            for line in lines:
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
        return 0


def _count_files() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    files = []
    try:
        memberships = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        memberships = []
    for membership in memberships:
        # Version 2 has one line without controllers, version 1 a line for each controller.
        _, controllers, path = membership.split(":", 2)
        if controllers == "":
            files.append(root / path.lstrip("/") / "memory.events")
        elif controllers == "memory":
            files.append(root / "memory" / path.lstrip("/") / "memory.oom_control")
    return [*files, Path("/proc/vmstat")]
