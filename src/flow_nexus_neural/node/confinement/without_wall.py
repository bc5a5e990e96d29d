"""The steps without a sandbox: descriptors, environment and resource limits only.

Used for nodes started by exec on Linux. It bounds what they consume, not what they can access.
"""

import os
import sys
from collections.abc import Collection

from flow_nexus_neural.node.confinement.limits import (
    close_descriptors,
    scrub_environment,
    set_rlimits,
)
from flow_nexus_neural.node.confinement.steps import ORPHANED_STATUS, Limits, Steps, mandatory


def confine_without_wall(
    granted: Limits, *, keep_fds: Collection[int], expected_ppid: int
) -> Steps:
    """Close descriptors, clear the environment and lower every limit; see `apply.confine`.

    Raises:
        ConfinementFailed: If one of the steps failed.
    """
    if os.getppid() != expected_ppid:
        os._exit(ORPHANED_STATUS)
    steps: Steps = {"platform": sys.platform}
    with mandatory("descriptors"):
        steps["descriptors"] = close_descriptors(keep_fds)
    with mandatory("environment"):
        steps["environment"] = scrub_environment()
    with mandatory("rlimits"):
        steps |= set_rlimits(
            memory_mb=granted.memory_mb, cpu_s=granted.cpu_s, nofile=granted.nofile
        )
    return steps
