"""What all clusters of an engine share: settings, places, ports, and who may block."""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import count
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from flow_nexus_neural.engine.calls.core_slots import TrainingTurns
from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Offload, Ports
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.store import Store
from flow_nexus_neural.errors import LimitExceeded
from flow_nexus_neural.runtime.base import NodeRuntime
from flow_nexus_neural.settings import Settings

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notices:
    """What callers should know of the engine's place.

    Attributes:
        always: In the replies of init, status and list, and where a cluster is not found.
        lists: In lists of clusters.
    """

    always: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineContext:
    """The engine's shared means.

    Attributes:
        ports: Time, ids, and where blocking work runs.
        tasks: Outlives every call; trainings and watchers run here.
        offload: Runs blocking work of the engine in few threads.
        offload_reading: Runs readings of the system that must not wait behind somebody's data.
        offload_data: Reads data sets in threads that are left behind when they hang; see `read_data`.
        turns: Lets as many nodes train at one time as there are places, over all clusters.
        listeners: Called with a cluster id whenever its status changed.
        notices: What callers should know of the engine's place.
        exporting: Held while an export is made, since each is held in memory.
        tracker_faults: What is wrong with trackers, by their name; status tells it.
        charging: Held while a privacy budget is read and charged.
        times_asked: Numbers the times at which nodes of one process are asked to train together.
    """

    settings: Settings
    runtime: NodeRuntime
    store: Store
    checkpoints: CheckpointFiles
    ports: Ports
    tasks: TaskGroup
    offload: Offload
    offload_reading: Offload
    offload_data: Offload
    turns: TrainingTurns
    notices: Notices
    listeners: list[Callable[[str], None]] = field(default_factory=list)
    exporting: anyio.Lock = field(default_factory=anyio.Lock)
    tracker_faults: dict[str, str] = field(default_factory=dict)
    charging: anyio.Lock = field(default_factory=anyio.Lock)
    times_asked: Iterator[int] = field(default_factory=partial(count, 1))

    @cached_property
    def offload_exporting(self) -> Offload:
        """Writes exports in a thread of their own; once begun that is carried out."""
        return self.ports.offload(1)

    def clock(self) -> float:
        """Seconds of a monotonic clock."""
        return self.ports.clock()

    @property
    def patience(self) -> Patience:
        """How long the engine waits for nodes."""
        return self.ports.patience

    def timestamp(self) -> str:
        """Now, as ISO 8601 in UTC to the millisecond."""
        return self.ports.timestamp()

    def new_id(self, prefix: str) -> str:
        """A fresh id such as `dnc_4f1c09a7be21`."""
        return self.ports.new_id(prefix)

    def incident(self) -> str:
        """A short name under which an unforeseen failure is logged."""
        return f"{self.ports.random_bits(16):04x}"

    def spawn(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Run work that outlives the call; should it fail in an unforeseen way, only it ends.

        One cluster's watcher or training must not take the others, or the server, with it.
        """

        async def run() -> None:
            try:
                await work(*arguments)
            except Exception:  # the wall between one cluster's work and all others
                name = getattr(work, "__qualname__", work)
                log.exception("incident %s in %s", self.incident(), name)

        self.tasks.start_soon(run)

    async def read_data(self, read: Callable[..., T], *arguments: object) -> T:
        """Read a data set; a file system that hangs costs this call only.

        Raises:
            LimitExceeded: If it takes too long, or as many reads as may be at one time take that long.
        """
        with anyio.move_on_after(self.patience.data_s):
            return await self.offload_data(read, *arguments)
        raise LimitExceeded(
            f"reading the data took more than {self.patience.data_s:g} s",
            hint="the disk or the network behind it may hang: copy the file to a local disk and call again",
        )

    async def delete_files(self, names: Collection[str]) -> None:
        """Delete checkpoint files that no row names any more, whatever their age."""

        def delete() -> None:
            for name in names:
                self.checkpoints.path(name).unlink(missing_ok=True)

        await self.offload(delete)
