"""The steps on macOS: descriptors, limits and a Seatbelt profile. UNTESTED: written from documentation.

`sandbox_init` is marked deprecated by Apple but browsers still use it. A node is started by exec there (a
fork after the use of Accelerate or Objective-C is not safe) and must import everything before it is confined.
That kernel does not enforce memory limits and has no parent-death signal: the node ends when its socket is
closed.
"""

import ctypes
import errno
import os
import resource
import socket
import sys
from collections.abc import Callable, Collection
from typing import Final

from flow_nexus_neural.node.confinement.steps import (
    ORPHANED_STATUS,
    Limits,
    Steps,
    errno_name,
    mandatory,
    opportunistic,
)
from flow_nexus_neural.settings import Hostile

_PROFILE: Final = b"""(version 1)
(deny default)
(allow sysctl-read)
(allow signal (target self))
"""
_SYSTEM: Final = "/usr/lib/libSystem.B.dylib"


def confine_macos(granted: Limits, *, keep_fds: Collection[int], expected_ppid: int) -> Steps:
    """Confine this process; see `apply.confine`."""
    if os.getppid() != expected_ppid:
        os._exit(ORPHANED_STATUS)
    steps: Steps = {"platform": sys.platform}
    with mandatory("descriptors"):
        steps["descriptors"] = _close_all_but(frozenset(keep_fds))
    with mandatory("rlimits"):
        resource.setrlimit(resource.RLIMIT_CPU, (granted.cpu_s, granted.cpu_s))
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted.nofile, granted.nofile))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        steps |= {"cpu_s": granted.cpu_s, "nofile": granted.nofile}
    os.environ.clear()
    steps["seatbelt"] = opportunistic(_enter_seatbelt)
    return steps


def run_macos_probes(*, hostile: Hostile = "errno") -> dict[str, str]:  # noqa: ARG001 - one signature
    """Attempt to read a file, to bind a socket and to fork. No attempt can end the node."""
    probes: dict[str, Callable[[], None]] = {
        "open": _open,
        "bind": _bind,
        "fork": _fork,
    }
    return {name: _outcome(probe) for name, probe in probes.items()}


def _close_all_but(kept: frozenset[int]) -> int:
    for descriptor in range(os.sysconf("SC_OPEN_MAX")):
        if descriptor not in kept:
            os.closerange(descriptor, descriptor + 1)
    return len(kept)


def _enter_seatbelt() -> bool:
    system = ctypes.CDLL(_SYSTEM, use_errno=True)
    message = ctypes.c_char_p()
    if system.sandbox_init(_PROFILE, ctypes.c_uint64(0), ctypes.byref(message)) != 0:
        raise OSError(
            errno.EPERM, f"sandbox_init: {(message.value or b'').decode(errors='replace')}"
        )
    return True


def _open() -> None:
    os.close(os.open("/etc/hosts", os.O_RDONLY))


def _bind() -> None:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _outcome(probe: Callable[[], None]) -> str:
    try:
        probe()
    except OSError as failure:
        return errno_name(failure)
    return "allowed"
