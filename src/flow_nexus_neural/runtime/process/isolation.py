"""Determines the isolation level of a node from outside.

Three sources: the kernel's data about the node's process, the results of its confinement steps, and the
results of its probes. If they disagree, the kernel's data counts. The expectations are not imported from
`node.confinement.policy` on purpose: a policy weakened by mistake must not weaken its own check.
"""

import os
import platform
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from flow_nexus_neural.errors import IsolationUnavailable
from flow_nexus_neural.runtime.base import Isolation
from flow_nexus_neural.settings import Hostile, IsolationRequirement

Step = str | int | bool | None

RANKS: Final[Mapping[str, int]] = {
    "none": 0,
    "process": 1,
    "job": 1,
    "seatbelt": 1,
    "seccomp": 2,
    "strict": 3,
}
"""Rank of each level: it satisfies requirements of equal or lower rank."""

EXPECTED_PROBES: Final[Mapping[str, frozenset[str]]] = {
    "open": frozenset({"ENOENT"}),
    "stat": frozenset({"EPERM"}),
    "socket": frozenset({"EPERM"}),
    "socketpair": frozenset({"EPERM"}),
    "sendmsg": frozenset({"EPERM"}),
    "out_of_band": frozenset({"EPERM"}),
    "shared_position": frozenset({"EPERM"}),
    "fork": frozenset({"EPERM"}),
    "thread": frozenset({"EPERM"}),
    "shared_futex": frozenset({"EPERM"}),
    "clock_of_parent": frozenset({"EPERM"}),
    "execve": frozenset({"EPERM"}),
    "memfd_create": frozenset({"EPERM"}),
    "ptrace": frozenset({"EPERM"}),
    "kill_parent": frozenset({"EPERM"}),
    "raise_rlimit": frozenset({"EPERM"}),
    "unshare": frozenset({"EPERM"}),
    "dumpable": frozenset({"EPERM"}),
    "bpf": frozenset({"EPERM"}),
    "exec_memory": frozenset({"EPERM"}),
    "shared_memory": frozenset({"EPERM"}),
    "stack_memory": frozenset({"EPERM"}),
    "read_only_memory": frozenset({"EPERM"}),
    "enlarge_memory": frozenset({"EPERM"}),
    "io_uring": frozenset({"ENOSYS"}),
    "third_descriptor": frozenset({"EBADF"}),
}

_FATAL_PROBES: Final = frozenset({"execve", "ptrace", "unshare", "bpf"})
"""Probes that a node leaves out if hostile calls kill, since they would end it."""

_SANDBOXES: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "darwin": ("seatbelt", "seatbelt", ("open", "bind", "fork")),
    "win32": ("job", "job_object", ()),
}
"""By platform: the level of its sandbox, the step that enters it, and the probes that must confirm it."""
_NOT_ENFORCED_ELSEWHERE: Final[Mapping[str, tuple[str, ...]]] = {
    "darwin": ("memory",),
    "win32": ("files", "network"),
}
_BY_GROUP: Final[Mapping[str, str]] = {"cpu_share": "cpu_percent", "total_memory": "memory_mb"}
"""Limits on all nodes together, which need a control group, each with the field that shows it."""
_WITHOUT_GROUP: Final = tuple(_BY_GROUP)

_LIMIT_LINES: Final[Mapping[str, str]] = {
    "Max data size": "data_bytes",
    "Max address space": "address_space_bytes",
    "Max cpu time": "cpu_s",
    "Max open files": "nofile",
    "Max file size": "file_bytes",
    "Max core file size": "core_bytes",
    "Max locked memory": "locked_bytes",
    "Max stack size": "stack_bytes",
    "Max pending signals": "pending_signals",
}
_MB: Final = 1 << 20
_REQUIRABLE: Final = frozenset({"strict", "seccomp", "process"})
_ROOT: Final = 0
_SECCOMP_FILTER: Final = "2"
_ENDED: Final = frozenset({"Z", "X"})
_BOUNDED: Final = ("data_bytes", "address_space_bytes", "cpu_s", "nofile")
_ZERO: Final = ("file_bytes", "core_bytes", "locked_bytes", "stack_bytes", "pending_signals")


def platform_name() -> str:
    """`linux`, `macos`, `windows`, or what Python calls the platform."""
    return {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)


def best_level() -> str:
    """The highest level that `judge` can return on this platform."""
    sandbox = _SANDBOXES.get(sys.platform)
    if sandbox is not None:
        return sandbox[0]
    return "strict" if sys.platform == "linux" else "process"


def judge(
    pid: int,
    steps: Mapping[str, Step],
    probes: Mapping[str, str],
    requirement: IsolationRequirement,
    *,
    hostile: Hostile = "errno",
) -> Isolation:
    """Determine the isolation level of a node, and refuse a level below the required one.

    Args:
        pid: The node's process; it must have sent Ready and still be alive.
        steps: Results of its confinement steps.
        probes: Results of its probes.
        requirement: Lowest accepted level; `auto` accepts any.
        hostile: Under `kill` the probes that would have ended the node are not expected.

    Raises:
        IsolationUnavailable: If the level is lower than required; the message names what is missing.
    """
    if sys.platform == "linux":
        examined = EXPECTED_PROBES.keys() - (_FATAL_PROBES if hostile == "kill" else ())
        found = _judge_linux(pid, steps, probes, examined)
    else:
        found = _judge_elsewhere(steps, probes)
    if requirement != "auto" and RANKS[found.level] < RANKS[requirement]:
        raise IsolationUnavailable(
            f"isolation level {requirement!r} is required and node process {pid} reached"
            f" {found.level!r}; missing: {', '.join(found.missing) or 'nothing that is known'}",
            hint="run on Linux 5.13 or newer with seccomp and Landlock switched on, or start the server"
            f" with --require-isolation {found.level if found.level in _REQUIRABLE else 'auto'}",
            details={"required": requirement, "got": found.level, "missing": list(found.missing)},
        )
    return found


def with_group(found: Isolation, limits: Mapping[str, int | None] | None) -> Isolation:
    """Add the limits on all nodes together.

    Args:
        found: The confinement of one node.
        limits: From `cgroups.NodeGroup.limits_on`; None if the node is in no control group.
    """
    if limits is None:
        return found
    enforced = {name for name, number in _BY_GROUP.items() if limits.get(number) is not None}
    return replace(
        found,
        layers={**found.layers, "cgroup": dict(limits)},
        not_enforced=tuple(name for name in found.not_enforced if name not in enforced),
    )


def _judge_linux(
    pid: int, steps: Mapping[str, Step], probes: Mapping[str, str], examined: Collection[str]
) -> Isolation:
    status = _fields(Path(f"/proc/{pid}/status"))
    if status is None or status.get("State", "")[:1] in _ENDED:
        return _unseen(pid, probes, ended=status is not None)
    limits = _limits(pid)
    layers = _layers(pid, status, limits, steps)
    filter_gaps = _filter_gaps(layers, limits, steps) + _probe_gaps(layers, probes, examined)
    file_gaps = _file_gaps(layers, steps)
    level = "process" if filter_gaps else "seccomp" if file_gaps else "strict"
    return Isolation(
        level,
        layers=layers,
        probes=dict(probes),
        not_enforced=_WITHOUT_GROUP,
        missing=(*filter_gaps, *file_gaps),
    )


def _unseen(pid: int, probes: Mapping[str, str], *, ended: bool) -> Isolation:
    """The result without kernel data: the process has ended, or /proc hides other users' processes."""
    alive = not ended and _is_there(pid)
    reason = "the process has ended" if ended else f"/proc/{pid}/status cannot be read"
    return Isolation(
        "process" if alive else "none",
        probes=dict(probes),
        not_enforced=_WITHOUT_GROUP,
        missing=(f"kernel state ({reason})",),
    )


def _layers(
    pid: int,
    status: Mapping[str, str],
    limits: Mapping[str, int | None],
    steps: Mapping[str, Step],
) -> dict[str, Any]:
    # Landlock counts only if its effect was observed: the directory could be opened before and not after.
    proven = steps.get("landlock_before") == "allowed" and steps.get("landlock_after") == "EACCES"
    data_bytes = limits.get("data_bytes")
    seen = {
        "network_namespace": _differs(pid, "ns/net"),
        "user_namespace": _differs(pid, "ns/user"),
        "chroot": _differs(pid, "root"),
    }
    return {
        "no_new_privs": status.get("NoNewPrivs") == "1",
        "seccomp": _seccomp(status, steps),
        "landlock_abi": steps.get("landlock_abi") if proven else None,
        **{name: steps.get(name) is True if fact is None else fact for name, fact in seen.items()},
        "uid": _first_number(status.get("Uid")),
        "capabilities": _capabilities(status, ("CapEff", "CapPrm", "CapInh", "CapAmb")),
        "bounding_set": _capabilities(status, ("CapBnd",)),
        "threads": _first_number(status.get("Threads")),
        "nice": _nice(pid),
        "rlimits": {
            "data_mb": None if data_bytes is None else data_bytes // _MB,
            "cpu_s": limits.get("cpu_s"),
            "nofile": limits.get("nofile"),
        },
        "cgroup": None,
        # Reported by the node alone: no process can read Landlock's state from outside, and namespaces and
        # root only a process that may trace the node.
        "on_the_nodes_word": [
            "landlock_abi",
            *(name for name, fact in seen.items() if fact is None),
        ],
    }


def _filter_gaps(
    layers: Mapping[str, Any],
    limits: Mapping[str, int | None],
    steps: Mapping[str, Step],
) -> list[str]:
    """What a node lacks for the level `seccomp`."""
    gaps = []
    if not layers["no_new_privs"]:
        gaps.append("no_new_privs")
    if layers["seccomp"] != "allow-list":
        gaps.append(f"seccomp ({steps.get('seccomp')})")
    if layers["capabilities"] != "none":
        gaps.append(f"capability drop (holds {layers['capabilities']})")
    if layers["threads"] != 1:
        gaps.append(f"one thread (has {layers['threads']})")
    gaps += [f"rlimit {name}" for name in _BOUNDED if limits.get(name) is None]
    gaps += [f"rlimit {name} = 0" for name in _ZERO if limits.get(name) != 0]
    return gaps


def _probe_gaps(
    layers: Mapping[str, Any], probes: Mapping[str, str], examined: Collection[str]
) -> list[str]:
    # Without the filter all its probes succeed: report the missing filter, not twenty probes.
    names = sorted(examined) if layers["seccomp"] == "allow-list" else ("third_descriptor",)
    return [
        f"probe {name} ({probes.get(name)})"
        for name in names
        if probes.get(name) not in EXPECTED_PROBES[name]
    ]


def _file_gaps(layers: Mapping[str, Any], steps: Mapping[str, Step]) -> list[str]:
    """What a node of level `seccomp` lacks for the level `strict`."""
    gaps = []
    if layers["landlock_abi"] is None:
        gaps.append(f"landlock ({steps.get('landlock')}, kernel {platform.release()})")
    if layers["uid"] == _ROOT:
        gaps.append(f"an unprivileged user id ({steps.get('uid')})")
    return gaps


def _seccomp(status: Mapping[str, str], steps: Mapping[str, Step]) -> str | None:
    """`allow-list` if the node has a filter that this process does not have.

    In a container every process may have a filter, so the mode in /proc alone does not prove the node's own.
    """
    if status.get("Seccomp") != _SECCOMP_FILTER:
        return None
    inherited = (_fields(Path("/proc/self/status")) or {}).get("Seccomp_filters")
    filters = status.get("Seccomp_filters")
    if filters is not None and inherited is not None and int(filters) <= int(inherited):
        return "inherited"
    return "allow-list" if steps.get("seccomp") == "allow-list" else "filter"


def _capabilities(status: Mapping[str, str], sets: tuple[str, ...]) -> str:
    """`none`, or the union of the sets in hexadecimal, or `unknown`."""
    held = 0
    for name in sets:
        if name not in status:
            return "unknown"
        held |= int(status[name], 16)
    return f"{held:#x}" if held else "none"


def _differs(pid: int, link: str) -> bool | None:
    """Whether the node's namespace or root differs from this process's; None if not permitted to read."""
    try:
        return os.readlink(f"/proc/{pid}/{link}") != os.readlink(f"/proc/self/{link}")
    except OSError:
        return None


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists, under another user id
        return True
    return True


def _nice(pid: int) -> int | None:
    """Scheduling priority, from -20 (first) to 19 (last)."""
    try:
        return os.getpriority(os.PRIO_PROCESS, pid)
    except OSError:
        return None


def _limits(pid: int) -> dict[str, int | None]:
    """Soft limits by name; None if the soft or hard limit is unlimited. Empty if unreadable."""
    try:
        lines = Path(f"/proc/{pid}/limits").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    found: dict[str, int | None] = {}
    for line in lines:
        name, values = line[:26].strip(), line[26:].split()[:2]
        if name in _LIMIT_LINES:
            # Both: a process may raise its soft limit up to the hard one.
            finite = all(value.isdecimal() for value in values)
            found[_LIMIT_LINES[name]] = int(values[0]) if finite else None
    return found


def _fields(path: Path) -> dict[str, str] | None:
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _first_number(field: str | None) -> int | None:
    return int(field.split()[0]) if field else None


def _judge_elsewhere(steps: Mapping[str, Step], probes: Mapping[str, str]) -> Isolation:
    """On other platforms: the result of the sandbox's step, if the probes confirm it."""
    sandbox = _SANDBOXES.get(sys.platform)
    if sandbox is None:
        return Isolation("process", probes=dict(probes), missing=("a sandbox for this platform",))
    level, step, expected = sandbox
    gaps = [] if steps.get(step) is True else [f"{step} ({steps.get(step)})"]
    gaps += [f"probe {n} ({probes.get(n)})" for n in expected if probes.get(n) != "EPERM"]
    return Isolation(
        "process" if gaps else level,
        layers={step: steps.get(step)},
        probes=dict(probes),
        not_enforced=(*_WITHOUT_GROUP, *_NOT_ENFORCED_ELSEWHERE[sys.platform]),
        missing=tuple(gaps),
    )
