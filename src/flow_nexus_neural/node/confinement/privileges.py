"""Capabilities, user ids, and the process attributes that restrict inspection, orphans and privileges."""

import ctypes
import errno
import os
import signal
from typing import Final

from flow_nexus_neural.node.confinement import libc, policy

_CAPABILITY_VERSION_3: Final = 0x2008_0522
_HIGHEST_CAPABILITY: Final = 63


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    # Two 32-bit halves of {effective, permitted, inheritable}, all zero: no capability.
    _fields_ = (("words", ctypes.c_uint32 * 6),)


def drop_bounding_set() -> str:
    """Empty the capability bounding set, the limit of what a later exec could gain.

    Returns:
        `empty`.

    Raises:
        OSError: EPERM without CAP_SETPCAP. Harmless: no-new-privs prevents the same gain.
    """
    for capability in range(_HIGHEST_CAPABILITY + 1):
        try:
            libc.prctl(libc.PR_CAPBSET_DROP, capability)
        except OSError as failure:
            if failure.errno == errno.EINVAL and capability > 0:
                break  # past the last capability that this kernel knows
            raise
    return "empty"


def drop_ids() -> int:
    """Become the unprivileged user of the policy, without supplementary groups. Only for root.

    Returns:
        The new user id.

    Raises:
        OSError: If the kernel refuses, for example in a container that maps one id only.
    """
    # Groups before the user: after setresuid the process may not change its groups any more.
    os.setgroups([])
    os.setresgid(policy.NODE_GID, policy.NODE_GID, policy.NODE_GID)
    os.setresuid(policy.NODE_UID, policy.NODE_UID, policy.NODE_UID)
    return policy.NODE_UID


def drop_capabilities() -> str:
    """Give up every effective, permitted, inheritable and ambient capability.

    Returns:
        `none`.

    Raises:
        OSError: If the kernel refuses.
    """
    libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_CLEAR_ALL)
    libc.syscall("capset", _CapabilityHeader(_CAPABILITY_VERSION_3, 0), _CapabilityData())
    return "none"


def forbid_inspection() -> bool:
    """Clear the dumpable flag: no core file, no ptrace, no /proc/<pid>/mem for processes of the same user.

    Raises:
        OSError: If the kernel refuses.
    """
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    return True


def die_with_parent(expected_ppid: int) -> bool:
    """Ask for SIGKILL when the parent dies.

    The kernel clears this setting and the dumpable flag when ids or capabilities change: call both later.

    Returns:
        False if the parent has already died: the signal will never come, so the caller must exit.

    Raises:
        OSError: If the kernel refuses.
    """
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    # Checked after the request: a parent that dies between the two is still noticed.
    return os.getppid() == expected_ppid


def forbid_new_privileges() -> bool:
    """Set no-new-privs: no exec can gain privileges. The kernel demands it for Landlock and seccomp.

    Raises:
        OSError: If the kernel refuses.
    """
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    return True
