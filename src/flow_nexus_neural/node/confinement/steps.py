"""Shared by the confinement of every platform: limits, results, mandatory and opportunistic steps."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from flow_nexus_neural.settings import Hostile

ORPHANED_STATUS: Final = 9
"""Exit status of a node whose parent died before the parent-death signal was requested."""

Steps = dict[str, str | int | bool | None]
"""Results of the confinement steps, by name."""


class ConfinementFailed(Exception):
    """A mandatory step failed: the process must exit (status 71) without reading anything."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits of a node.

    Attributes:
        memory_mb: Private memory above its size at the start, in MiB.
        cpu_s: CPU seconds over its whole life.
        nofile: Highest descriptor number plus one.
        hostile: Whether a system call that no library makes in normal use fails, or kills the node.
    """

    memory_mb: int
    cpu_s: int
    nofile: int
    hostile: Hostile = "errno"


@contextlib.contextmanager
def mandatory(step: str) -> Iterator[None]:
    """Mark a step without which the node must not run: its OSError ends the node.

    Raises:
        ConfinementFailed: In place of an OSError of the block.
    """
    try:
        yield
    except OSError as failure:
        raise ConfinementFailed(f"confinement step {step} failed: {failure}") from failure


def opportunistic(step: Callable[[], str | int | bool]) -> str | int | bool:
    """Run a step that may fail; return its result, or the name of the errno it failed with."""
    try:
        return step()
    except OSError as failure:
        return errno_name(failure)


def errno_name(failure: OSError) -> str:
    """Return the symbolic name, for example `EPERM`, or `E<number>` if Python knows none."""
    code = failure.errno or 0
    return errno.errorcode.get(code, f"E{code}")
