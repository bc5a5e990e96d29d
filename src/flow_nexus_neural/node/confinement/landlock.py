"""A Landlock domain without rules: no file, no TCP port, no abstract socket, no signal to outside processes.

Source: `Documentation/userspace-api/landlock.rst` of the kernel, ABI 1 to 7.
"""

import ctypes
import os
from collections.abc import Mapping
from typing import Final

from flow_nexus_neural.node.confinement import policy
from flow_nexus_neural.node.confinement.libc import syscall
from flow_nexus_neural.node.confinement.steps import errno_name

_GET_VERSION: Final = 1
_ATTRIBUTE_BYTES: Final = {1: 8, 4: 16, 6: 24}


class _RulesetAttribute(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def landlock_abi() -> int:
    """Return the Landlock ABI version of this kernel.

    Raises:
        OSError: ENOSYS or EOPNOTSUPP where Landlock is not built in or switched off.
    """
    return syscall("landlock_create_ruleset", None, 0, _GET_VERSION)


def enter_domain(abi: int) -> bool:
    """Restrict this process in everything that Landlock version `abi` can restrict.

    Raises:
        OSError: If the kernel refuses.
    """
    attribute = _RulesetAttribute(
        _newest(policy.LANDLOCK_FS_BITS, abi),
        _newest(policy.LANDLOCK_NET_BITS, abi),
        _newest(policy.LANDLOCK_SCOPE_BITS, abi),
    )
    # The structure grew with the ABI: an older kernel refuses bytes that it does not know.
    ruleset = syscall("landlock_create_ruleset", attribute, _newest(_ATTRIBUTE_BYTES, abi), 0)
    try:
        syscall("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def try_to_list(directory: int) -> str:
    """Open a directory for reading; return `allowed`, or the errno's name."""
    try:
        os.close(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory))
    except OSError as failure:
        return errno_name(failure)
    return "allowed"


def _newest(table: Mapping[int, int], abi: int) -> int:
    return max((value for since, value in table.items() if since <= abi), default=0)
