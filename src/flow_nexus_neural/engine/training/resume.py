"""A training goes on whose server had ended: from its last committed round, with the same result to the byte.

So does one whose server lives and whose disk refused to store a round, as soon as it can be stored again.
All that a round rests on is durable with the round before it (`state.continuation`), the rows as they were
prepared and the networks before the first round since the start. What follows the rounds begins anew, as far
as it was not recorded.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.engine.links.connect import link_again
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.lifecycle import revive
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.storage.cluster_rows import training_of, training_row
from flow_nexus_neural.engine.storage.prepared_data import read_prepared
from flow_nexus_neural.engine.training.aggregation_rule import asks_everybody
from flow_nexus_neural.engine.training.boundary import Boundary, Change
from flow_nexus_neural.engine.training.continuing import (
    Standpoint,
    read_standpoint,
    read_starts,
)
from flow_nexus_neural.engine.training.decision import decide_how
from flow_nexus_neural.engine.training.division import NO_SHARDS
from flow_nexus_neural.engine.training.end_record import end_run
from flow_nexus_neural.engine.training.feedback_data import FEEDBACK
from flow_nexus_neural.engine.training.network_plans import describe_network
from flow_nexus_neural.engine.training.preparation import (
    Preparation,
    describe_data,
    healthy_workers,
)
from flow_nexus_neural.engine.training.run import TrainingRun
from flow_nexus_neural.errors import NeuralError, StoreCorrupt, StoreUnavailable
from flow_nexus_neural.vocabulary import TrainingStatus

MAX_IN_VAIN = 25
"""A training that has taken its server with it so often, without anything new of it, is given up.

So is one that could not be stored so often: that is after twenty minutes.
"""
LONGEST_PAUSE_S = 60.0
"""Between two tries to store something."""

log = logging.getLogger(__name__)


@dataclass
class Resumption:
    """A training that is about to go on; stands in the cluster for the run that it becomes.

    Attributes:
        training: As it was stored, running.
        boundary: Changes that wait for the next boundary between two rounds.
        ended: Set when the training has ended, whether or not it went on.
        refusal: Why it waits where its server has not ended: the disk refuses.
        interrupted: The server is stopping again.
    """

    cluster: LiveCluster
    training: Training
    boundary: Boundary = field(default_factory=Boundary)
    interrupted: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)
    rows_last_round: int = 0
    delivered: list[int] = field(default_factory=list)
    refusal: StoreUnavailable | None = None

    @property
    def least_workers(self) -> int:
        """It does without workers until it goes on."""
        return 0

    @property
    def is_steered(self) -> bool:
        """It goes on as it was; its course changes once it does."""
        return False

    def steer(self, **changes: float | str | None) -> None:
        """Change the course that it will take."""
        self.training.steer(**changes)

    def back_to_best(self) -> None:
        """Nothing is decided about it until it goes on, see `is_steered`."""

    @property
    def waits(self) -> str:
        """What is missing until it goes on."""
        done, planned = self.training.advance.rounds_done, self.training.config.rounds
        if self.refusal is not None:
            pauses = [_pause_s(n) for n in range(self.training.resumptions.in_vain, MAX_IN_VAIN)]
            return (
                f"waits after round {done} of {planned} until it can be stored: {self.refusal.message};"
                f" {self.refusal.hint or 'free disk space'}; tries again within {(pauses or [0])[0]:.0f} s,"
                f" and fails when nothing can be stored for {sum(pauses):.0f} s"
            )
        return f"the server ended after round {done} of {planned}; goes on when its nodes are started again"

    def stop(self) -> None:
        """It does not go on; it ends where it is."""
        self.scope.cancel()

    def interrupt(self) -> None:
        """The server stops; it goes on when the next one opens the directory."""
        self.interrupted = True
        self.scope.cancel()

    def at_next_boundary(self, change: Change) -> None:
        """Queue a change for the boundary before its next round."""
        self.boundary.queue(change)

    def network_of(self, slot: str) -> NetworkGroup | None:
        """The network group in which a slot will train; None if it does not."""
        groups = self.training.starts.values()
        return next((network for network in groups if slot in network.slots), None)

    @property
    def shards(self) -> Mapping[str, NDArray[np.int64]]:
        """None are known yet."""
        return {}

    async def reshard(self, workers: Sequence[Slot]) -> int:
        """Nothing to divide yet."""
        del workers
        return 0

    async def run(self) -> None:
        """Bring nodes and links back, then train on. Never raises: an error becomes the training's own."""
        run = await self.becomes()
        if run is not None:
            await carry_through(run)

    async def becomes(self) -> TrainingRun | None:
        """The run that goes on, which stands in the cluster now; None where the training has ended."""
        error: str | None = None
        run: TrainingRun | None = None
        try:
            with self.scope:
                run = await self._once_it_can_be_stored()
        except StoreUnavailable as failure:
            error = str(failure)
        except NeuralError as failure:
            why = "the server ended" if self.refusal is None else "the disk refused"
            error = f"interrupted: {why}, and it cannot go on: {failure}"
        except Exception:  # a bug must end this training only, not the engine's task group
            name = self.cluster.context.incident()
            log.exception("incident %s in resuming %s", name, self.training.training_id)
            error = f"internal_error: unexpected failure (incident {name})"
        if run is not None and not self.scope.cancel_called:
            # Nothing was awaited since: no change is lost, and nobody waits for the end of something else.
            run.boundary, run.ended = self.boundary, self.ended
            self.cluster.begin_run(run)
            self.cluster.changed()
            return run
        with anyio.CancelScope(shield=True):
            await self._end(error)
        return None

    async def _once_it_can_be_stored(self) -> TrainingRun:
        """Prepare it, again and again while the disk refuses, with growing pauses.

        Raises:
            StoreUnavailable: It has refused for too long.
            NeuralError: It cannot go on.
        """
        while True:
            in_vain = self.training.resumptions.in_vain
            if self.refusal is not None:
                if in_vain >= MAX_IN_VAIN:
                    raise self.refusal
                await anyio.sleep(_pause_s(in_vain))
            try:
                if self.refusal is not None:
                    await self._forget_what_is_not_durable()
                return await self._prepared()
            except StoreUnavailable as failure:
                self.refusal = failure
                self.cluster.changed()

    async def _forget_what_is_not_durable(self) -> None:
        """Back to what its rows say, as if its server had ended. Raises `StoreCorrupt`."""
        cluster, training = self.cluster, self.training
        stored = await cluster.context.store.load(cluster.cluster_id)
        rows = [row for row in stored.trainings if row.training_id == training.training_id]
        if not rows or cluster.cluster_id in stored.refused:
            why = stored.refused.get(cluster.cluster_id, "its row is missing")
            raise StoreCorrupt(f"training {training.training_id} cannot be read: {why}")
        points = [one for one in stored.history if one.training_id == training.training_id]
        training.go_back_to(training_of(rows[0], points))

    async def _prepared(self) -> TrainingRun:
        """The run that goes on; that it is to is durable before its nodes start. Raises `NeuralError`."""
        cluster, training = self.cluster, self.training
        before = training.resumptions
        if before.in_vain >= MAX_IN_VAIN:
            raise StoreCorrupt(
                f"the server ended {MAX_IN_VAIN} times before anything further of it was made durable",
                hint="train with less memory: fewer workers, fewer rows or a smaller network",
            )
        # First: a server that is killed while its nodes come back counts too.
        training.resume()
        resumed = {
            **training.entry("training_resumed"),
            "after_round": training.advance.rounds_done,
            "times": training.resumptions.times,
        }
        try:
            await cluster.ledger.record([resumed], [training_row(cluster.cluster_id, training)])
        except StoreUnavailable:
            training.resume_in_vain(before)
            raise
        await revive(cluster)
        await link_again(cluster)
        preparation, standpoint = await prepare_again(cluster, training)
        return TrainingRun(cluster, training, preparation, standpoint=standpoint)

    async def _end(self, error: str | None) -> None:
        became: tuple[TrainingStatus, str | None] = (
            "stopped" if error is None else "failed",
            error,
        )
        # Interrupted, whatever failed since: its nodes are being stopped.
        await end_run(
            self.cluster, self.training, self.boundary, None if self.interrupted else became
        )
        self.ended.set()
        self.cluster.changed()


async def carry_through(run: TrainingRun) -> None:
    """Run a training to its end. Never raises.

    Where the disk refuses, what was not made durable is forgotten, as when a server ends, and it goes on from
    its last committed round once that can be stored.
    """
    going: TrainingRun | None = run
    while going is not None:
        await going.run()
        if going.stalled is None:
            return
        waiting = Resumption(
            going.cluster,
            going.training,
            boundary=going.boundary,
            ended=going.ended,
            refusal=going.stalled,
        )
        going.cluster.begin_run(waiting)
        going.cluster.changed()
        going = await waiting.becomes()


def _pause_s(in_vain: int) -> float:
    """Before the next try, after so many in vain."""
    return float(min(2.0**in_vain, LONGEST_PAUSE_S))


def begin_resumption(cluster: LiveCluster) -> None:
    """Let the training that ran go on, in a task of the engine."""
    training = cluster.state.latest_training
    if training is None or training.status != "running":
        return
    resumption = Resumption(cluster, training)
    cluster.begin_run(resumption)
    cluster.context.spawn(resumption.run)


def show_interrupted(cluster: LiveCluster) -> None:
    """Say of the training that ran that it does not go on here; that is not stored."""
    training = cluster.state.latest_training
    if training is None or training.status != "running":
        return
    serving = None if cluster.committed is None else cluster.committed.version
    training.interrupt(cluster.context.timestamp(), serving, waits=True)


async def prepare_again(cluster: LiveCluster, training: Training) -> tuple[Preparation, Standpoint]:
    """What a training had prepared, from what was stored of it, and from where it goes on.

    Raises:
        StoreCorrupt: A file is missing or altered.
        NoWorkers: There is no healthy worker.
    """
    context, config = cluster.context, training.config
    if training.data is None or training.request is None:
        raise StoreCorrupt("its request or its rows were not stored", hint="train again")
    data = await context.offload(read_prepared, context.checkpoints, training.data)
    request = TrainRequest.model_validate(
        {**training.request, "cluster_id": cluster.cluster_id, "dataset": data.description.name}
    )
    standpoint = await read_standpoint(cluster, training)
    networks = standpoint.networks
    learns = data.description.kind == FEEDBACK
    if data.folds or data.refit or data.crossing or learns:
        networks = await read_starts(cluster, training)
    decision = decide_how(request, data)
    if learns and cluster.committed is not None:
        decision = replace(decision, rule=cluster.committed.bundle.rule)
    preparation = Preparation(
        data=data,
        shards=NO_SHARDS,
        networks=networks,
        config=config,
        network_infos=[describe_network(network) for network in networks.values()],
        dataset=describe_data(data),
        continues=True,
        least_workers=request.min_nodes_per_round or 1,
        everybody=asks_everybody(request, cluster.spec.consensus),
        decision=decision,
        warnings=[],
        run=(config.seed, training.ordinal),
    )
    course = preparation.course(data.parts["train"])
    shards = await context.offload(course.cut, _dealt(cluster, training))
    return replace(preparation, shards=shards), standpoint


def _dealt(cluster: LiveCluster, training: Training) -> list[Slot]:
    """The workers among whom the rows were divided, those included that have left since."""
    names = training.advance.continuation.dealt
    known = {slot.name: slot for slot in cluster.slots.with_retired()}
    return [known[name] for name in names if name in known] or healthy_workers(cluster)
