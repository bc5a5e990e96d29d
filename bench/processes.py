"""What /proc says of single processes."""

import os
from collections import Counter
from pathlib import Path


def descriptors(pid: int) -> Counter[str]:
    """Open descriptors by kind."""
    kinds: Counter[str] = Counter()
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            kinds[os.readlink(f"/proc/{pid}/fd/{number}").partition(":")[0]] += 1
        except OSError:
            continue
    return kinds


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def started_at(pid: int) -> str:
    """When a process was started, in ticks since boot; empty when there is none of this number."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in "ZX" else ""


def parent(pid: int) -> int:
    """The process that it is a child of; 0 when there is none of this number."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def command(pid: int) -> str:
    """Its command line; empty when there is none of this number."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def resident_mb(pid: int) -> float:
    """Memory of one process in MB, shared pages included."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
