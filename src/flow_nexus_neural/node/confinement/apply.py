"""Confines the process that calls it, step by step, for good.

Called in a freshly started child with one thread, before it has read a byte from the engine. A mandatory
step that fails ends the node; an opportunistic one is recorded by its errno, and the level that the engine
computes from outside is lower. Everything is imported here: after the fork nothing is.
"""

import sys
from collections.abc import Collection

from flow_nexus_neural.node.confinement.steps import (
    ORPHANED_STATUS,
    ConfinementFailed,
    Limits,
    Steps,
)
from flow_nexus_neural.settings import Hostile

if sys.platform == "linux":
    from flow_nexus_neural.node.confinement.linux import confine_linux as _confine
    from flow_nexus_neural.node.confinement.probes import run_linux_probes as _run_probes
elif sys.platform == "darwin":
    from flow_nexus_neural.node.confinement.macos import confine_macos as _confine
    from flow_nexus_neural.node.confinement.macos import run_macos_probes as _run_probes
else:
    from flow_nexus_neural.node.confinement.windows import confine_windows as _confine
    from flow_nexus_neural.node.confinement.windows import run_windows_probes as _run_probes

__all__ = ["ORPHANED_STATUS", "ConfinementFailed", "Limits", "Steps", "confine", "run_probes"]


def confine(granted: Limits, *, keep_fds: Collection[int], expected_ppid: int) -> Steps:
    """Give up everything but computing, and answering on the kept descriptors.

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
    return _confine(granted, keep_fds=keep_fds, expected_ppid=expected_ppid)


def run_probes(*, hostile: Hostile = "errno") -> dict[str, str]:
    """Try once each thing that a node must not be able to do.

    Args:
        hostile: As in the limits; under `kill` the probes that would end the node are left out.

    Returns:
        By probe: the errno's name, or `allowed`. Empty on platforms without a wall to examine.
    """
    return _run_probes(hostile=hostile)
