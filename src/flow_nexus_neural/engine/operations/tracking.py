"""Keeps trackers up to date with what is durable of trainings, beside the rounds and never in their way.

A round only puts its cluster on a list, which holds each cluster once. Trackers find out themselves what they
lack: what one missed while it hung, or while no server ran, it gets the next time.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from flow_nexus_neural.artifacts.trackers.history_files import HistoryFiles
from flow_nexus_neural.artifacts.trackers.registry import TRACKERS
from flow_nexus_neural.artifacts.trackers.tracker import (
    METRICS,
    TrackedRound,
    TrackedTraining,
    Tracker,
)
from flow_nexus_neural.coordination.privacy.lineage import of_training
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.ports import Offload
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.errors import NotAvailable

LIMIT_S = 30.0
"""A tracker that takes longer hangs, and is not asked again until the server starts anew."""
PAUSE_S = 0.2
"""Between two looks: rounds of milliseconds are written together."""

log = logging.getLogger(__name__)


@dataclass
class _Lane:
    """One tracker and the threads that it may block, which nobody else needs."""

    name: str
    make: Callable[[], Tracker]
    offload: Offload
    tracker: Tracker | None = None
    has_hung: bool = False


@dataclass
class Tracking:
    """The trackers of an engine.

    Args:
        context: The engine's means.
        find: The cluster of an id, as long as it has not ended; None for others.
    """

    context: EngineContext
    find: Callable[[str], LiveCluster | None]
    _due: dict[str, LiveCluster] = field(default_factory=dict)
    _wake: anyio.Event = field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        settings = self.context.settings
        place = settings.state_dir
        makers: dict[str, Callable[[], Tracker]] = {HistoryFiles.name: lambda: HistoryFiles(place)}
        if settings.tracker != "none":
            makers[settings.tracker] = lambda: TRACKERS[settings.tracker](place)
        ports = self.context.ports
        self._lanes = [_Lane(name, make, ports.offload_data(1)) for name, make in makers.items()]

    def note(self, cluster_id: str) -> None:
        """Something of a cluster changed. Called in the round's own path: nothing here waits."""
        cluster = self.find(cluster_id)
        if cluster is not None and cluster.state.latest_training is not None:
            self._due[cluster_id] = cluster
            self._wake.set()

    async def run(self) -> None:
        """Bring trackers up to date as long as the engine is open."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            await self.catch_up()
            await anyio.sleep(PAUSE_S)

    async def catch_up(self) -> None:
        """Bring every tracker up to date now."""
        due, self._due = self._due, {}
        trainings = [_tracked(cluster) for cluster in due.values()]
        async with anyio.create_task_group() as group:
            for lane in self._lanes:
                group.start_soon(self._follow, lane, [one for one in trainings if one])

    async def _follow(self, lane: _Lane, trainings: list[TrackedTraining]) -> None:
        for training in trainings:
            if lane.has_hung:
                return
            why = None
            try:
                with anyio.move_on_after(LIMIT_S) as limit:
                    await lane.offload(_track, lane, training)
                if limit.cancelled_caught:
                    lane.has_hung = True
                    why = f"it took more than {LIMIT_S:g} s and is not asked again"
            except NotAvailable as refusal:
                why = refusal.message
            except Exception as failure:  # noqa: BLE001 - the wall between a tracker and all trainings
                why = f"{type(failure).__name__}: {failure}"[:300]
            self._report(lane.name, why)

    def _report(self, name: str, why: str | None) -> None:
        faults = self.context.tracker_faults
        if why is None:
            faults.pop(name, None)
        elif faults.get(name) != why:
            faults[name] = why
            log.warning("tracker %s: %s", name, why)


def _track(lane: _Lane, training: TrackedTraining) -> None:
    if lane.tracker is None:
        lane.tracker = lane.make()
    lane.tracker.track(training)


def _tracked(cluster: LiveCluster) -> TrackedTraining | None:
    """What is durable now of the latest training of a cluster; None of one whose files were deleted."""
    training = cluster.state.latest_training
    if training is None or cluster.state.artifacts_deleted:
        return None
    return TrackedTraining(
        cluster_id=cluster.cluster_id,
        cluster_name=cluster.spec.name,
        training_id=training.training_id,
        config=_plain(training),
        rounds=tuple(
            TrackedRound(point.round, {name: getattr(point, name) for name in METRICS})
            for point in training.history
        ),
        status=training.status,
        privacy=_privacy(training),
    )


def _privacy(training: Training) -> dict[str, str]:
    """What it has cost until now; `none` without privacy."""
    own = of_training(
        training.training_id,
        training.advance.rounds_done,
        training.config.privacy,
        training.advance.privacy,
        secure_aggregation=training.config.secure_aggregation,
    )
    values = own.model_dump(mode="json", exclude={"training_id", "data"}, exclude_none=True)
    return {name: str(value) for name, value in values.items()}


def _plain(training: Training) -> dict[str, str | int | float | bool | None]:
    values = training.config.model_dump(mode="json")
    return {k: v for k, v in values.items() if isinstance(v, str | int | float | bool)}
