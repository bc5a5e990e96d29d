"""Which runtime nodes get on this system."""

from contextlib import AbstractAsyncContextManager

from flow_nexus_neural.runtime.base import NodeRuntime
from flow_nexus_neural.runtime.exec.runtime import ExecRuntime
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess, can_fork_nodes
from flow_nexus_neural.settings import Settings


def runtime_of_this_system(
    settings: Settings, zygote: ZygoteProcess | None
) -> AbstractAsyncContextManager[NodeRuntime]:
    """Nodes forked by a zygote where that is possible, else started one by one; to be opened.

    Args:
        settings: See the runtimes.
        zygote: One that is already launched, for the first of the two.
    """
    if not can_fork_nodes():
        return ExecRuntime(settings)
    from flow_nexus_neural.runtime.local.runtime import LocalRuntime  # POSIX only

    return LocalRuntime(settings, zygote)
