"""Confines the process that calls it, step by step, for good.

Called in a freshly forked child with one thread, before it has read a byte from the engine. A mandatory step
that fails ends the node; an opportunistic one is recorded by its errno, and the level that the engine
computes from outside is lower.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from flow_nexus_neural.node.confinement import landlock, limits, namespaces, privileges, seccomp
from flow_nexus_neural.node.confinement.libc import errno_name
from flow_nexus_neural.node.confinement.policy import Hostile
from flow_nexus_neural.node.confinement.probes import run_probes
from flow_nexus_neural.node.confinement.syscalls import this_machine

__all__ = ["ORPHANED_STATUS", "ConfinementFailed", "Limits", "Steps", "confine", "run_probes"]

ORPHANED_STATUS: Final = 9
"""Exit status of a node whose parent was gone before it could ask to die with it."""

Steps = dict[str, str | int | bool | None]
"""What each step returned, by the step's name."""


class ConfinementFailed(Exception):
    """A mandatory step failed: the process must exit (status 71) without reading anything."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node may use.

    Attributes:
        memory_mb: Private memory above its size at the start, in MiB.
        cpu_s: CPU seconds over its whole life.
        nofile: Highest descriptor number plus one.
        hostile: Whether a call that no honest node makes fails with an errno or kills it.
    """

    memory_mb: int
    cpu_s: int
    nofile: int
    hostile: Hostile = "errno"


def confine(granted: Limits, *, keep_fds: Collection[int], expected_ppid: int) -> Steps:
    """Give up everything but computing, and answering on the kept descriptors.

    The order matters: namespaces and capabilities need the rights that the id drop takes away, the kernel
    forgets not-dumpable and the parent-death signal on every change of ids, and the filter closes the door.

    Args:
        granted: Resource limits.
        keep_fds: Descriptors that stay open: the engine's socket and the stderr pipe.
        expected_ppid: Process id of the parent as it was before the fork. When it has died the process
            exits with status 9 at once.

    Returns:
        Results by step: the value reached, or the errno's name of an opportunistic step that was refused.

    Raises:
        ConfinementFailed: If a mandatory step failed.
    """
    as_root = os.geteuid() == 0
    steps: Steps = {"platform": sys.platform}
    with _mandatory("descriptors"):
        steps["descriptors"] = limits.close_descriptors(keep_fds)
    with _mandatory("environment"):
        steps["environment"] = limits.scrub_environment()
    with _mandatory("rlimits"):
        steps |= limits.set_rlimits(
            memory_mb=granted.memory_mb, cpu_s=granted.cpu_s, nofile=granted.nofile
        )
    with _witness() as root_directory:
        steps |= namespaces.enter_namespaces(as_root=as_root)
        steps["chroot"] = _opportunistic(namespaces.enter_empty_root)
        _drop_privileges(steps, as_root=as_root, expected_ppid=expected_ppid)
        steps |= _enter_landlock(root_directory)
    steps["seccomp"] = _opportunistic(lambda: _install_filter(granted.hostile))
    return steps


def _drop_privileges(steps: Steps, *, as_root: bool, expected_ppid: int) -> None:
    steps["bounding_set"] = _opportunistic(privileges.drop_bounding_set)
    steps["uid"] = _opportunistic(privileges.drop_ids) if as_root else None
    steps["capabilities"] = _opportunistic(privileges.drop_capabilities)
    with _mandatory("not_dumpable"):
        steps["not_dumpable"] = privileges.forbid_inspection()
    with _mandatory("parent_death_signal"):
        if not privileges.die_with_parent(expected_ppid):
            os._exit(ORPHANED_STATUS)
        steps["parent_death_signal"] = True
    with _mandatory("no_new_privs"):
        steps["no_new_privs"] = privileges.forbid_new_privileges()


def _enter_landlock(root_directory: int | None) -> Steps:
    """Enter the domain, and see its effect: the file system's root could be listed before, not after."""
    abi = _opportunistic(landlock.landlock_abi)
    if not isinstance(abi, int):
        return {
            "landlock_abi": None,
            "landlock": abi,
            "landlock_before": None,
            "landlock_after": None,
        }
    before = None if root_directory is None else landlock.try_to_list(root_directory)
    entered = _opportunistic(lambda: landlock.enter_domain(abi))
    after = None if root_directory is None else landlock.try_to_list(root_directory)
    return {
        "landlock_abi": abi,
        "landlock": entered,
        "landlock_before": before,
        "landlock_after": after,
    }


def _install_filter(hostile: Hostile) -> str:
    machine = this_machine()
    if machine is None:
        return "no table for this machine"
    return seccomp.install_filter(machine, hostile=hostile)


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


@contextlib.contextmanager
def _mandatory(step: str) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise ConfinementFailed(f"confinement step {step} failed: {failure}") from failure


def _opportunistic(step: Callable[[], str | int | bool]) -> str | int | bool:
    try:
        return step()
    except OSError as failure:
        return errno_name(failure)
