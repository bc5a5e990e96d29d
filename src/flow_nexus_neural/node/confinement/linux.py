"""The steps on Linux, in the only order that works."""

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
    """See `apply.confine`.

    Namespaces and capabilities need the rights that the id drop takes away; the kernel forgets
    not-dumpable and the parent-death signal on every change of ids; the filter closes the door.
    """
    as_root = os.geteuid() == 0
    steps: Steps = {"platform": sys.platform}
    with mandatory("descriptors"):
        steps["descriptors"] = limits.close_descriptors(keep_fds)
    with mandatory("environment"):
        steps["environment"] = limits.scrub_environment()
    with mandatory("rlimits"):
        steps |= limits.set_rlimits(
            memory_mb=granted.memory_mb, cpu_s=granted.cpu_s, nofile=granted.nofile
        )
    steps["oom_score"] = opportunistic(limits.die_first)
    with _witness() as root_directory:
        steps |= namespaces.enter_namespaces(as_root=as_root)
        steps["chroot"] = opportunistic(namespaces.enter_empty_root)
        _drop_privileges(steps, as_root=as_root, expected_ppid=expected_ppid)
        steps |= _enter_landlock(root_directory)
    steps["seccomp"] = opportunistic(lambda: seccomp.install_filter(hostile=granted.hostile))
    return steps


def _drop_privileges(steps: Steps, *, as_root: bool, expected_ppid: int) -> None:
    steps["bounding_set"] = opportunistic(privileges.drop_bounding_set)
    steps["uid"] = opportunistic(privileges.drop_ids) if as_root else None
    steps["capabilities"] = opportunistic(privileges.drop_capabilities)
    with mandatory("not_dumpable"):
        steps["not_dumpable"] = privileges.forbid_inspection()
    with mandatory("parent_death_signal"):
        if not privileges.die_with_parent(expected_ppid):
            os._exit(ORPHANED_STATUS)
        steps["parent_death_signal"] = True
    with mandatory("no_new_privs"):
        steps["no_new_privs"] = privileges.forbid_new_privileges()


def _enter_landlock(root_directory: int | None) -> Steps:
    """Enter the domain, and see its effect: the file system's root could be listed before, not after."""
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
def _witness() -> Iterator[int | None]:
    """The file system's root, held over the chroot: the place on which Landlock's effect can be seen."""
    try:
        descriptor = os.open("/", os.O_PATH | os.O_DIRECTORY)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
