"""What every part of the engine shares: limits, places, clocks, and who may block."""

import logging
import secrets
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio.abc import TaskGroup

from flow_nexus_neural.engine.autonomy.observe import observe
from flow_nexus_neural.engine.calls.core_slots import TrainingTurns
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.store import Store
from flow_nexus_neural.runtime.base import NodeRuntime
from flow_nexus_neural.settings import Settings

if TYPE_CHECKING:
    from flow_nexus_neural.engine.state.cluster import Cluster

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass
class EngineContext:
    """The engine's shared means.

    Attributes:
        tasks: Outlives every call; trainings and watchers run here.
        workers: At most so many threads compute for the engine at one time.
        turns: Lets as many nodes train at one time as the runtime has places, over all clusters.
        listeners: Called with a cluster id whenever its status changed.
    """

    settings: Settings
    runtime: NodeRuntime
    store: Store
    checkpoints: CheckpointFiles
    tasks: TaskGroup
    workers: anyio.CapacityLimiter
    turns: TrainingTurns
    listeners: list[Callable[[str], None]]

    async def offload(self, function: Callable[..., T], *arguments: object) -> T:
        """Run blocking work in a worker thread, so that the event loop keeps answering."""
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self.workers)

    def clock(self) -> float:
        """Seconds of a monotonic clock."""
        return anyio.current_time()

    def spawn(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Run work that outlives the call; should it fail in a way nobody foresaw, only it ends.

        One cluster's watcher or training must not take the others, or the server, with it.
        """

        async def run() -> None:
            try:
                await work(*arguments)
            except Exception:  # the wall between one cluster's work and all others
                log.exception("incident %s in %s", incident(), getattr(work, "__qualname__", work))

        self.tasks.start_soon(run)

    async def delete_files(self, names: Collection[str]) -> None:
        """Delete checkpoint files that no row names any more, whatever their age."""

        def delete() -> None:
            for name in names:
                self.checkpoints.path(name).unlink(missing_ok=True)

        await self.offload(delete)

    def changed(self, cluster: "Cluster") -> None:
        """Wake whoever waits for a change of this cluster, let autonomy look, tell the listeners."""
        cluster.changes.bump()
        observe(cluster, timestamp())
        for listener in self.listeners:
            listener(cluster.cluster_id)


def timestamp() -> str:
    """Now, as ISO 8601 in UTC to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def incident() -> str:
    """A short name under which a failure that nobody foresaw is logged."""
    return secrets.token_hex(2)


def new_id(prefix: str) -> str:
    """A fresh id such as `dnc_4f1c09a7be21`."""
    return f"{prefix}_{secrets.token_hex(6)}"
