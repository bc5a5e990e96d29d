"""Puts a node into its own network, IPC, UTS and cgroup namespaces and an empty root. All opportunistic."""

import contextlib
import os
import socket
from typing import Final

from flow_nexus_neural.node.confinement.libc import syscall
from flow_nexus_neural.node.confinement.steps import errno_name

_EMPTY_ROOT: Final = "/proc/self/fdinfo"

_HOST_NAME: Final = "node"
_CLONE_NEWUSER: Final = 0x1000_0000
_NAMESPACES: Final = {
    "network_namespace": 0x4000_0000,
    "ipc_namespace": 0x0800_0000,
    "uts_namespace": 0x0400_0000,
    "cgroup_namespace": 0x0200_0000,
}


def enter_namespaces(*, as_root: bool) -> dict[str, str | bool | None]:
    """Enter a new namespace of each kind; one call each, so that one refusal does not cost the others.

    Without root a user namespace comes first: it grants the right to create the others. No id is mapped
    into it, so the node owns no file there.

    Returns:
        By name: True if entered, None if not attempted, else the errno's name.
    """
    results: dict[str, str | bool | None] = {"user_namespace": None}
    if not as_root:
        results["user_namespace"] = _attempt(_CLONE_NEWUSER)
    for name, flag in _NAMESPACES.items():
        results[name] = _attempt(flag)
    if results["uts_namespace"] is True:
        with contextlib.suppress(OSError):
            socket.sethostname(_HOST_NAME)  # hides the machine's real host name from the node
    return results


def _attempt(flag: int) -> str | bool:
    try:
        syscall("unshare", flag)
    except OSError as failure:
        return errno_name(failure)
    return True


def enter_empty_root() -> bool:
    """Change the root to /proc/self/fdinfo, which holds nothing but the process's own descriptors.

    Source: Chromium's Linux sandbox, which chroots into the fdinfo of a dead process.

    Raises:
        OSError: Without CAP_SYS_CHROOT or without a mounted /proc.
    """
    os.chroot(_EMPTY_ROOT)
    os.chdir("/")  # a working directory outside the new root would be a way around it
    return True
