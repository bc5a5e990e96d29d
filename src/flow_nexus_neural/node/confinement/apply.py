"""Confines the calling process irrevocably, with the steps of its platform.

Called in a freshly started child with one thread, before it reads a byte from the engine. If a mandatory
step fails, the node ends. If an opportunistic step fails, its errno is recorded and the engine computes a
lower isolation level. All imports happen at the top: a confined node cannot read modules from disk.
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
    """Give up every right except computing and using the kept descriptors.

    Args:
        granted: Resource limits.
        keep_fds: Descriptors that stay open: the engine's socket and the stderr pipe.
        expected_ppid: Process id of the parent as it was before the fork. If the parent has died since,
            the process exits with status 9 at once.

    Returns:
        By step: its value, or the name of the errno with which an opportunistic step failed.

    Raises:
        ConfinementFailed: If a mandatory step failed.
    """
    return _confine(granted, keep_fds=keep_fds, expected_ppid=expected_ppid)


def run_probes(*, hostile: Hostile = "errno") -> dict[str, str]:
    """Attempt each operation that the confinement must refuse, once.

    Args:
        hostile: As in the limits; under `kill` the probes that would end the node are left out.

    Returns:
        By probe: the errno's name, or `allowed`. Empty on Windows, which has no sandbox to test.
    """
    return _run_probes(hostile=hostile)
