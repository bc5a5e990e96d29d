"""Puts all nodes into one control group, where the system lets us: the only limits on their total.

The group lies directly below the group this process is in, in the single hierarchy of version 2 or in the
memory, cpu and pids hierarchies of version 1. No group that is not named by us is written to, moved or
removed, with one exception that version 2 demands. There a group with processes in it cannot hand controllers
to its children. If this process and its zygote are alone in a group that they may write, as in a scope that
systemd has delegated, they move into a leaf of their own, and back at the end.

Kernel documentation: admin-guide/cgroup-v1/memory, admin-guide/cgroup-v2 ("Delegation", "No Internal Process
Constraint").
"""

import logging
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, Self

_LOG: Final = logging.getLogger(__name__)

_PREFIX: Final = "flow-nexus-neural"
_NAME: Final = re.compile(rf"{_PREFIX}-(?:nodes|server)-(\d+)-(\d+)-\d+")
"""Kind, process id and start time of the server: a group is stale once that process is gone."""
_SERIAL: Final = count(1)
_CONTROLLERS: Final = ("memory", "cpu", "pids")
_FILES: Final[Mapping[int, Mapping[str, str]]] = {
    1: {"memory": "memory.limit_in_bytes", "cpu": "cpu.shares", "pids": "pids.max"},
    2: {"memory": "memory.max", "cpu": "cpu.weight", "pids": "pids.max"},
}
"""By version, the file that holds each controller's limit."""
_NO_SWAP: Final = {1: "memory.memsw.limit_in_bytes", 2: "memory.swap.max"}
_ORDINARY_WEIGHT: Final = {1: 1024, 2: 100}
"""Weight of a process, or group, that nobody has given another."""
_CPU_PERCENT: Final = 25
_SHARE_OF_MEMORY: Final = 3, 4
_UNLIMITED_BYTES: Final = 1 << 60
_SPARE_PROCESSES: Final = 16
_STAT_START_TIME: Final = 19  # of the fields behind the command's closing parenthesis
_MB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """What all nodes together may use.

    Attributes:
        memory_mb: Their memory; None is three quarters of what this process may use itself.
        nodes: Processes, the zygote and a few starting ones not counted.
    """

    memory_mb: int | None
    nodes: int


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy and the place of this process in it."""

    version: int
    controllers: frozenset[str]
    home: Path


class NodeGroup:
    """The group, as made in every hierarchy that allowed it.

    Args:
        version: Of the kernel interface, 1 or 2.
        places: Directory by controller; several controllers may share one.
        leaf: The directory into which this process moved to make room; None when it did not.
    """

    def __init__(self, version: int, places: Mapping[str, Path], leaf: Path | None = None) -> None:
        self._version = version
        self._places = dict(places)
        self._leaf = leaf

    @classmethod
    def create(cls, limits: GroupLimits, *, ours: Collection[int]) -> Self | None:
        """Make the group and limit it; also removes what servers that were killed have left.

        Blocks for some milliseconds where processes have to be moved.

        Args:
            limits: For all nodes together.
            ours: Processes that may be moved out of the way: this one and its zygote.

        Returns:
            None where there is no subtree that this process may write.
        """
        if sys.platform != "linux":
            return None
        found = hierarchies()
        for hierarchy in found:
            _sweep(hierarchy.home)
        places = _version_1_places([h for h in found if h.version == 1], limits)
        if places:
            return cls(1, places)
        for hierarchy in (h for h in found if h.version == 2):
            made = _version_2_places(hierarchy, limits, frozenset(ours))
            if made is not None:
                return cls(2, *made)
        return None

    @property
    def kill_counters(self) -> tuple[Path, ...]:
        """Files in which the kernel counts what it killed here for memory."""
        memory = self._places.get("memory")
        if memory is None:
            return ()
        return (memory / ("memory.oom_control" if self._version == 1 else "memory.events"),)

    def add(self, pid: int) -> None:
        """Put a process, and with it whatever it forks from now on, into the group.

        What it has allocated before stays charged to where it was. Blocks for about 10 ms.

        Raises:
            OSError: If it is gone, or the kernel refuses.
        """
        for place in self._directories:
            _write(place / "cgroup.procs", str(pid))

    def limits_on(self, pid: int) -> dict[str, int | None] | None:
        """What the kernel says limits a process by way of this group; None when it is not in there.

        Returns:
            `version`; `memory_mb` and `processes` for all members together; `cpu_percent`, their weight in
            percent of an ordinary process's. None stands for what is not limited.
        """
        found = {
            controller: _number(place / _FILES[self._version][controller])
            for controller, place in self._places.items()
            if str(pid) in _words(place / "cgroup.procs")
        }
        if not found:
            return None
        memory, weight = found.get("memory"), found.get("cpu")
        ordinary = _ORDINARY_WEIGHT[self._version]
        return {
            "version": self._version,
            "memory_mb": None if memory is None or memory > _UNLIMITED_BYTES else memory // _MB,
            "cpu_percent": None if weight is None else weight * 100 // ordinary,
            "processes": found.get("pids"),
        }

    def close(self) -> bool:
        """Remove the group; idempotent. What is left is swept by the next start.

        Returns:
            False while the kernel still takes its last processes apart: ask again.
        """
        if not all(_remove(place) for place in self._directories):
            return False
        self._places = {}
        if self._leaf is not None:
            _move_back(self._leaf)
            self._leaf = None
        return True

    @property
    def _directories(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(self._places.values()))


def hierarchies(proc: Path = Path("/proc/self")) -> list[Hierarchy]:
    """Every mounted hierarchy with one of our controllers, and this process's group in it."""
    try:
        mounts = (proc / "mountinfo").read_text(encoding="utf-8").splitlines()
        memberships = (proc / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    paths = {}
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        paths[frozenset(controllers.split(",")) if controllers else frozenset()] = path
    return [h for line in mounts if (h := _hierarchy(line, paths)) is not None]


def _hierarchy(mount: str, paths: Mapping[frozenset[str], str]) -> Hierarchy | None:
    before, _, after = mount.partition(" - ")
    root, point = before.split()[3:5]
    kind, _, options = after.split()[:3]
    if kind == "cgroup2":
        path = paths.get(frozenset())
        home = None if path is None else _below(Path(point), root, path)
        offered = frozenset() if home is None else frozenset(_words(home / "cgroup.controllers"))
        version = 2
    elif kind == "cgroup":
        offered = frozenset(options.split(","))
        path = next((path for names, path in paths.items() if names and names <= offered), None)
        home = None if path is None else _below(Path(point), root, path)
        version = 1
    else:
        return None
    ours = offered.intersection(_CONTROLLERS)
    return Hierarchy(version, ours, home) if ours and home is not None else None


def _below(point: Path, root: str, path: str) -> Path | None:
    """Where a group lies in a mount that shows the hierarchy from `root` on."""
    inside = root in ("/", path) or path.startswith(root + "/")
    return point / path.removeprefix(root).lstrip("/") if inside else None


def _version_1_places(found: Sequence[Hierarchy], limits: GroupLimits) -> dict[str, Path]:
    """One directory per hierarchy; a hierarchy that refuses is left out."""
    places: dict[str, Path] = {}
    for hierarchy in found:
        place = hierarchy.home / _name("nodes")
        try:
            place.mkdir()
        except OSError as refusal:
            _LOG.info("no control group %s: %s", place, refusal)
            continue
        try:
            for controller in hierarchy.controllers:
                _limit(controller, 1, place, limits)
        except OSError as refusal:
            _LOG.info("control group %s cannot be limited: %s", place, refusal)
            _remove(place)
            continue
        places.update(dict.fromkeys(hierarchy.controllers, place))
    return places


def _version_2_places(
    hierarchy: Hierarchy, limits: GroupLimits, ours: frozenset[int]
) -> tuple[dict[str, Path], Path | None] | None:
    home, leaf, place = hierarchy.home, None, hierarchy.home / _name("nodes")
    wanted = [name for name in _CONTROLLERS if name in hierarchy.controllers]
    try:
        if not set(wanted) <= set(_words(home / "cgroup.subtree_control")):
            leaf = _make_room(home, ours, wanted)
            if leaf is None:
                return None
        place.mkdir()
        for controller in wanted:
            _limit(controller, 2, place, limits)
    except OSError as refusal:
        _LOG.info("no control group %s: %s", place, refusal)
        _remove(place)
        if leaf is not None:
            _move_back(leaf)
        return None
    return dict.fromkeys(wanted, place), leaf


def _make_room(home: Path, ours: frozenset[int], wanted: Sequence[str]) -> Path | None:
    """Move this process and its zygote into a leaf, so that `home` can hand out controllers.

    Returns:
        The leaf; None when others live in `home` too.

    Raises:
        OSError: If the kernel refuses; this process is then where it was.
    """
    members = {int(word) for word in _words(home / "cgroup.procs")}
    if not members or not members <= ours:
        return None
    leaf = home / _name("server")
    leaf.mkdir()
    try:
        for pid in members:
            _write(leaf / "cgroup.procs", str(pid))
        _write(home / "cgroup.subtree_control", " ".join(f"+{name}" for name in wanted))
    except OSError:
        _move_back(leaf)
        raise
    return leaf


def _move_back(leaf: Path) -> None:
    """Undo `_make_room` as far as the kernel lets us."""
    home = leaf.parent
    enabled = _words(home / "cgroup.subtree_control")
    with suppress(OSError):
        _write(home / "cgroup.subtree_control", " ".join(f"-{name}" for name in enabled))
    for pid in _words(leaf / "cgroup.procs"):
        with suppress(OSError):
            _write(home / "cgroup.procs", pid)
    _remove(leaf)


def _limit(controller: str, version: int, place: Path, limits: GroupLimits) -> None:
    file = place / _FILES[version][controller]
    match controller:
        case "memory":
            allowed = _memory_bytes(limits, place.parent / file.name)
            _write(file, str(allowed))
            with suppress(OSError):  # absent where the kernel does not account swap
                # Version 1 limits memory and swap together, version 2 swap alone.
                _write(place / _NO_SWAP[version], str(allowed if version == 1 else 0))
        case "cpu":
            _write(file, str(_ORDINARY_WEIGHT[version] * _CPU_PERCENT // 100))
        case "pids":
            _write(file, str(limits.nodes + _SPARE_PROCESSES))


def _memory_bytes(limits: GroupLimits, own_limit: Path) -> int:
    if limits.memory_mb is not None:
        return limits.memory_mb * _MB
    usable = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    own = _number(own_limit)
    numerator, denominator = _SHARE_OF_MEMORY
    return (usable if own is None else min(usable, own)) * numerator // denominator


def _sweep(home: Path) -> None:
    """Remove our own kind of group where its server is gone; one that still has members stays."""
    try:
        names = os.listdir(home)
    except OSError:
        return
    for name in names:
        match = _NAME.fullmatch(name)
        if match is not None and _start_time(int(match[1])) != match[2]:
            _remove(home / name)


def _name(kind: str) -> str:
    pid = os.getpid()
    return f"{_PREFIX}-{kind}-{pid}-{_start_time(pid)}-{next(_SERIAL)}"


def _start_time(pid: int) -> str | None:
    """In ticks since the machine's start: together with the id it names one process for ever."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[_STAT_START_TIME]


def _remove(place: Path) -> bool:
    """Whether it is gone."""
    try:
        place.rmdir()
    except FileNotFoundError:
        return True
    except OSError as refusal:
        _LOG.debug("control group %s cannot be removed: %s", place, refusal)
        return False
    return True


def _write(file: Path, text: str) -> None:
    # Never O_CREAT: what the kernel does not offer must not appear.
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except OSError:
        return []


def _number(file: Path | None) -> int | None:
    """The file's number; None for `max`, or when it cannot be read."""
    words = [] if file is None else _words(file)
    return int(words[0]) if words and words[0].isdecimal() else None
