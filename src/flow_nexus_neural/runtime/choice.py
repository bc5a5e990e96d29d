"""Chooses the runtime for this system."""

from contextlib import AbstractAsyncContextManager

from flow_nexus_neural.runtime.base import NodeRuntime
from flow_nexus_neural.runtime.exec.runtime import ExecRuntime
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess, can_fork_nodes
from flow_nexus_neural.settings import Settings


def runtime_of_this_system(
    settings: Settings, zygote: ZygoteProcess | None
) -> AbstractAsyncContextManager[NodeRuntime]:
    """Return a runtime, not yet opened: nodes forked by a zygote if possible, else started by exec.

    Nodes on other machines are chosen by the settings only.

    Args:
        settings: Limits of nodes, and the required isolation.
        zygote: A zygote that is already launched, for the runtime that forks.
    """
    if settings.runtime == "ray":
        from flow_nexus_neural.runtime.ray.runtime import RayRuntime  # only where it is asked for

        return RayRuntime(settings)
    if not can_fork_nodes():
        return ExecRuntime(settings)
    from flow_nexus_neural.runtime.local.runtime import LocalRuntime  # POSIX only

    return LocalRuntime(settings, zygote)
