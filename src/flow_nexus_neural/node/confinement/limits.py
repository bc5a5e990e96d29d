"""Descriptors, environment and resource limits of a node. None of these steps needs a privilege."""

import contextlib
import ctypes
import errno
import os
import resource
from collections.abc import Collection
from typing import Final

from flow_nexus_neural.node.confinement import policy
from flow_nexus_neural.node.confinement.libc import syscall, wipe_environment_strings

_LAST_DESCRIPTOR: Final = 0xFFFF_FFFF
_MB: Final = 1 << 20
_STACK_MARGIN_BYTES: Final = 1 << 16
_ENV_END: Final = 48
"""Place of `env_end`, just below the top of the stack, among the fields of /proc/PID/stat after the name."""
_SIZES: Final = frozenset({b"VmData", b"VmSize"})


def close_descriptors(keep: Collection[int]) -> int:
    """Close every descriptor that is not in `keep`, standard input and output included.

    Returns:
        The number of descriptors that are open afterwards.

    Raises:
        OSError: If a kept descriptor is not open, or closing is impossible.
    """
    kept = sorted(set(keep))
    for descriptor in kept:
        os.fstat(descriptor)
    try:
        first = 0
        for descriptor in kept:
            if descriptor > first:
                syscall("close_range", first, descriptor - 1, 0)
            first = descriptor + 1
        syscall("close_range", first, _LAST_DESCRIPTOR, 0)
    except OSError as failure:
        if failure.errno != errno.ENOSYS:
            raise
        _close_one_by_one(frozenset(kept))
    return len(kept)


def _close_one_by_one(kept: frozenset[int]) -> None:
    """Fallback for kernels before 5.9, which lack close_range."""
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor not in kept:
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
                os.close(descriptor)


def scrub_environment() -> int:
    """Delete every variable that the policy does not keep, from Python's and from C's memory.

    Returns:
        The number of variables left.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in policy.ENVIRONMENT_NAMES or name.startswith(policy.ENVIRONMENT_PREFIXES)
    }
    if len(kept) == len(os.environ):
        return len(kept)
    # First: once the variables are unset, nothing points to their C strings any more.
    wipe_environment_strings()
    os.environ.clear()
    if os.name == "posix":
        import posix

        posix.environ.clear()
    os.environ.update(kept)
    return len(kept)


def set_rlimits(*, memory_mb: int, cpu_s: int, nofile: int) -> dict[str, int]:
    """Lower every limit, soft and hard, so that the process cannot raise one again.

    RLIMIT_DATA bounds private writable memory, counted from the present size; RLIMIT_AS bounds the
    whole address space (page tables cost memory too). The seccomp policy denies the kinds of writable
    mapping that RLIMIT_DATA does not count; of them only the stack is left, and it has its final size.

    Args:
        memory_mb: Private memory above the present, in MiB.
        cpu_s: CPU seconds over the whole life.
        nofile: Highest descriptor number plus one.

    Returns:
        Limits as set: `data_mb`, `address_space_mb`, `cpu_s`, `nofile`.

    Raises:
        OSError: If a limit cannot be set or the present size cannot be read.
    """
    stack_bytes = _fix_stack()
    present = _present_kb()
    data_bytes = present[b"VmData"] * 1024 + memory_mb * _MB
    space_bytes = present[b"VmSize"] * 1024 + (memory_mb + policy.ADDRESS_SPACE_SLACK_MB) * _MB
    wanted = {
        resource.RLIMIT_DATA: (data_bytes, data_bytes),
        resource.RLIMIT_AS: (space_bytes, space_bytes),
        # SIGXCPU names the reason; SIGKILL follows for a node that ignores it.
        resource.RLIMIT_CPU: (cpu_s, cpu_s + policy.CPU_GRACE_S),
        resource.RLIMIT_NOFILE: (nofile, nofile),
        resource.RLIMIT_STACK: (stack_bytes, stack_bytes),
        **{getattr(resource, f"RLIMIT_{name}"): (0, 0) for name in policy.ZERO_RLIMITS},
    }
    soft = {limit: _lower(limit, *pair) for limit, pair in wanted.items()}
    return {
        "data_mb": soft[resource.RLIMIT_DATA] // _MB,
        "address_space_mb": soft[resource.RLIMIT_AS] // _MB,
        "cpu_s": soft[resource.RLIMIT_CPU],
        "nofile": soft[resource.RLIMIT_NOFILE],
    }


def die_first() -> int:
    """Make the kernel's out-of-memory killer prefer this node to the zygote, the server and other programs.

    Returns:
        The score adjustment in force, at most 1000.

    Raises:
        OSError: If the kernel refuses.
    """
    descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    try:
        os.write(descriptor, str(policy.OOM_SCORE).encode())
    finally:
        os.close(descriptor)
    return policy.OOM_SCORE


def _fix_stack() -> int:
    """Give the main stack its final size, untouched pages included, and return the limit that keeps it.

    RLIMIT_STACK bounds each mapping that grows downwards, not their sum: a process that splits its stack
    could let the lower part grow again and again. With the limit 0 none of them grows any more.
    """
    limit_bytes = _lower(resource.RLIMIT_STACK, policy.STACK_BYTES, policy.STACK_BYTES)
    # Bytes, not text: see `_present_kb`. The name, in parentheses, may hold anything.
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    top = int(fields[_ENV_END]) if len(fields) > _ENV_END else 0
    if top == 0:  # not a Linux kernel's /proc: the engine sees the limit and reports it as missing
        return limit_bytes
    ctypes.string_at(top - limit_bytes + _STACK_MARGIN_BYTES, 1)  # a read maps all that lies above
    return 0


def _lower(limit: int, soft: int, hard: int) -> int:
    """Set a limit, or the present hard limit where that is lower already. Returns the soft limit set."""
    present = resource.getrlimit(limit)[1]
    if present != resource.RLIM_INFINITY:
        soft, hard = min(soft, present), min(hard, present)
    try:
        resource.setrlimit(limit, (soft, hard))
    except ValueError as refused:
        raise OSError(errno.EPERM, f"rlimit {limit} to {hard}: {refused}") from refused
    return soft


def _present_kb() -> dict[bytes, int]:
    # Bytes, not text: a text file would import its codec, and nothing is imported after the fork.
    with open("/proc/self/status", "rb") as status:
        pairs = (line.split(b":", 1) for line in status)
        return {name: int(value.split()[0]) for name, value in pairs if name in _SIZES}
