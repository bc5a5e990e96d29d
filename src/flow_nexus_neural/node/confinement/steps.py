"""Shared by the confinement of every platform: limits, results, mandatory and opportunistic steps."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from flow_nexus_neural.settings import Hostile

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
