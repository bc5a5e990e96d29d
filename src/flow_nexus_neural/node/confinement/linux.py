"""The confinement steps on Linux, in the only order that works."""

import contextlib
import os
import sys
from collections.abc import Collection, Iterator

from flow_nexus_neural.node.confinement import landlock, limits, namespaces, privileges, seccomp
from flow_nexus_neural.node.confinement.steps import (
    ORPHANED_STATUS,
    Limits,
    Steps,
    mandatory,
    opportunistic,
)


def confine_linux(granted: Limits, *, keep_fds: Collection[int], expected_ppid: int) -> Steps:
    """Confine this process; see `apply.confine`. The comments say why each step has its place."""
    as_root = os.geteuid() == 0
    steps: Steps = {"platform": sys.platform}
    with mandatory("descriptors"):
        steps["descriptors"] = limits.close_descriptors(keep_fds)
    with mandatory("environment"):
        steps["environment"] = limits.scrub_environment()
    # Limits and OOM score read and write files below /proc, which cannot be opened after the chroot.
    with mandatory("rlimits"):
        steps |= limits.set_rlimits(
            memory_mb=granted.memory_mb, cpu_s=granted.cpu_s, nofile=granted.nofile
        )
    steps["oom_score"] = opportunistic(limits.die_first)
    # Namespaces and chroot need CAP_SYS_ADMIN and CAP_SYS_CHROOT (of the machine or of the new user
    # namespace), which dropping the ids and capabilities takes away.
    with _open_root_directory() as root_directory:
        steps |= namespaces.enter_namespaces(as_root=as_root)
        steps["chroot"] = opportunistic(namespaces.enter_empty_root)
        _drop_privileges(steps, as_root=as_root, expected_ppid=expected_ppid)
        steps |= _enter_landlock(root_directory)
    # Last: the filter refuses the system calls of every step above.
    steps["seccomp"] = opportunistic(lambda: seccomp.install_filter(hostile=granted.hostile))
    return steps


def _drop_privileges(steps: Steps, *, as_root: bool, expected_ppid: int) -> None:
    # Needs CAP_SETPCAP, which root loses with its uid.
    steps["bounding_set"] = opportunistic(privileges.drop_bounding_set)
    steps["uid"] = opportunistic(privileges.drop_ids) if as_root else None
    steps["capabilities"] = opportunistic(privileges.drop_capabilities)
    # The kernel resets both of the following on every change of ids or capabilities, without an error.
    with mandatory("not_dumpable"):
        steps["not_dumpable"] = privileges.forbid_inspection()
    with mandatory("parent_death_signal"):
        if not privileges.die_with_parent(expected_ppid):
            os._exit(ORPHANED_STATUS)
        steps["parent_death_signal"] = True
    # Without CAP_SYS_ADMIN the kernel demands this before Landlock and before seccomp.
    with mandatory("no_new_privs"):
        steps["no_new_privs"] = privileges.forbid_new_privileges()


def _enter_landlock(root_directory: int | None) -> Steps:
    """Enter a Landlock domain; record whether the root directory could be opened before and after.

    Only here is the effect of Landlock visible: later the seccomp filter refuses every open anyway.
    """
    abi = opportunistic(landlock.landlock_abi)
    if not isinstance(abi, int):
        return {
            "landlock_abi": None,
            "landlock": abi,
            "landlock_before": None,
            "landlock_after": None,
        }
    before = None if root_directory is None else landlock.try_to_list(root_directory)
    entered = opportunistic(lambda: landlock.enter_domain(abi))
    after = None if root_directory is None else landlock.try_to_list(root_directory)
    return {
        "landlock_abi": abi,
        "landlock": entered,
        "landlock_before": before,
        "landlock_after": after,
    }


@contextlib.contextmanager
def _open_root_directory() -> Iterator[int | None]:
    """Hold `/` open across the chroot, so that Landlock's effect can be tested on a real directory.

    Yields None where it cannot be opened.
    """
    try:
        descriptor = os.open("/", os.O_PATH | os.O_DIRECTORY)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
