"""A running training: executes rounds, one after the other, until all are committed.

It runs in a task of the engine, not in the call that started it. Queued changes of topology and new members
take effect at the boundary between two rounds.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.raft.gate import await_majority
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.version import model_digest
from flow_nexus_neural.engine.training.attention import attended
from flow_nexus_neural.engine.training.boundary import Boundary, Change
from flow_nexus_neural.engine.training.continuing import Standpoint, continuation_after
from flow_nexus_neural.engine.training.division import division_of
from flow_nexus_neural.engine.training.end_record import end_run
from flow_nexus_neural.engine.training.exchange import mean_loss
from flow_nexus_neural.engine.training.learning import Learning
from flow_nexus_neural.engine.training.personalisation import Personaliser
from flow_nexus_neural.engine.training.preparation import Preparation
from flow_nexus_neural.engine.training.private_sums import PrivateSums
from flow_nexus_neural.engine.training.record_steps import RecordSteps
from flow_nexus_neural.engine.training.retraining import Retraining, planned_refit
from flow_nexus_neural.engine.training.roles.learning import RoleLearning
from flow_nexus_neural.engine.training.roles.out_of_fold import CrossFitting
from flow_nexus_neural.engine.training.rounds import Rounds
from flow_nexus_neural.engine.versions.candidate import Candidate
from flow_nexus_neural.engine.versions.commit import commit_round
from flow_nexus_neural.engine.versions.evaluation import Evaluator
from flow_nexus_neural.engine.versions.final import commit_best, commit_final
from flow_nexus_neural.engine.versions.judge import Judge
from flow_nexus_neural.errors import NeuralError, PrivacyBudgetSpent, StoreUnavailable
from flow_nexus_neural.vocabulary import ENDED_WELL, TrainingStatus

log = logging.getLogger(__name__)


@dataclass
class TrainingRun:
    """Executes one training.

    Attributes:
        boundary: Changes that wait for the next boundary between two rounds.
        interrupted: The server is stopping; the user has not asked to end this training.
        scope: Cancelled to stop the training.
        ended: Set when the training's row is durable, or its server ends.
        delivered: Workers on whose updates each committed round rests, of this server's life.
        standpoint: From where it goes on; None for one that begins.
        stalled: Why it has not ended, although its run has: the disk refuses, and it may go on later.
    """

    cluster: LiveCluster
    training: Training
    preparation: Preparation
    boundary: Boundary = field(default_factory=Boundary)
    interrupted: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)
    delivered: list[int] = field(default_factory=list)
    standpoint: Standpoint | None = None
    stalled: StoreUnavailable | None = None

    def __post_init__(self) -> None:
        self.context = self.cluster.context
        prepared = self.preparation
        course = prepared.course(prepared.data.parts["train"], prepared.data.parts["select"])
        settings = prepared.config.privacy
        self.rounds = Rounds(
            self.cluster,
            course,
            dict(prepared.networks),
            prepared.shards,
            private=PrivateSums(self.cluster, self.training, settings)
            if settings and settings.mode == "central_dp"
            else None,
            record_steps=RecordSteps(self.cluster, self.training, settings)
            if settings and settings.mode == "record_dp"
            else None,
        )
        evaluator = Evaluator(self.cluster, prepared.data.parts)
        roles = RoleLearning(
            self.cluster, prepared.run, private=prepared.config.privacy is not None
        )
        self._judge = Judge(evaluator, prepared.data, prepared.decision.rule, roles)
        self._best: dict[str, NetworkGroup] | None = None
        self._starts: dict[str, NetworkGroup] = {}
        self._retrains = bool(prepared.data.folds) or prepared.data.refit or prepared.is_gated
        self._starts_again = self._retrains or prepared.data.crossing
        if self.training.phase == "rounds":
            self.training.plan_later(
                n_folds=len(prepared.data.folds), refit=planned_refit(prepared.data)
            )
        self.rows_last_round = 0

    async def run(self) -> None:
        """Train until all rounds are committed or no longer gain, the training is stopped, or it fails.

        Never raises: errors are recorded in the training's status. Where the disk refuses it is `stalled`.
        """
        status: TrainingStatus = "stopped"
        error: str | None = None
        try:
            with self.scope:
                status = await self._rounds()
        except StoreUnavailable as failure:
            status, error = "failed", str(failure)
            self.stalled = failure if self.training.can_resume else None
        except NeuralError as failure:
            status, error = "failed", str(failure)
        except Exception:  # a bug must end this training only, not the engine's task group
            name = self.context.incident()
            log.exception("incident %s in training %s", name, self.training.training_id)
            status, error = "failed", f"internal_error: unexpected failure (incident {name})"
        finally:
            with anyio.CancelScope(shield=True):
                await self._end(status, error)

    def stop(self) -> None:
        """End the training; a commit that has begun is completed first."""
        self.scope.cancel()

    def interrupt(self) -> None:
        """End the work because the server stops; the training goes on when one opens the directory again."""
        self.interrupted = True
        self.scope.cancel()

    def at_next_boundary(self, change: Change) -> None:
        """Queue a change for the next boundary between two rounds."""
        self.boundary.queue(change)

    @property
    def shards(self) -> Mapping[str, NDArray[np.int64]]:
        """Row numbers of every slot's shard."""
        return self.rounds.exchange.shards

    def network_of(self, slot: str) -> NetworkGroup | None:
        """The network group in which a slot trains; None if it does not train."""
        return self.rounds.network_of(slot)

    @property
    def least_workers(self) -> int:
        """Healthy workers without which no round can be done."""
        return self.rounds.course.least_workers

    @property
    def is_steered(self) -> bool:
        """Whether it follows `steer`; candidates that are trained apart do not."""
        return not self.preparation.is_gated

    def steer(self, **changes: float | str | None) -> None:
        """Change the course from the next boundary on; see `Steering`."""
        self.training.steer(**changes)
        self.cluster.changed()

    def back_to_best(self) -> None:
        """Go on from the best round's weights, which are in force from the next boundary on."""
        self.at_next_boundary(self._restore_best)

    async def reshard(self, workers: Sequence[Slot]) -> int:
        """Partition the training rows among these workers; returns the number of changed shards."""
        return await self.rounds.reshard(workers)

    async def _rounds(self) -> TrainingStatus:
        await self.rounds.begin()
        networks, advance = self.rounds.networks, self.training.advance
        self.training.begin_from(model_digest({key: n.digest or "" for key, n in networks.items()}))
        self._starts = dict(self.rounds.networks) if self._starts_again else {}
        if self.preparation.is_gated:
            await self._learn()
            return "completed"
        if self.standpoint is not None and advance.rounds_done:
            point = self.standpoint
            self.rounds.go_on_from(
                point.networks, point.own_states, advance.continuation, advance.proofs
            )
            self._best = point.best
            # What the last round before the end showed may not have been decided on, or not durably.
            await attended(self.cluster)
        while self.training.needs_rounds:
            await self._at_boundary()
            number = self.training.advance.rounds_done + 1
            try:
                await self.rounds.run(partial(self._round, number), self._held)
            except PrivacyBudgetSpent:
                if not self.training.advance.rounds_done:
                    raise
                self.training.note_privacy(replace(self.training.advance.privacy, exhausted=True))
            await attended(self.cluster)
        await self._finish()
        return "early_stopped" if self.training.stops_early else "completed"

    async def _learn(self) -> None:
        """Train apart from what answers, and let the result answer if it is better."""
        await self.rounds.release()
        again = self._again()
        await Learning(self.cluster, self.training, self.preparation, self._judge, again).run()

    async def _round(self, number: int) -> None:
        """One try of a round: train, aggregate, evaluate, commit."""
        cluster, rounds = self.cluster, self.rounds
        began_s, bytes_before = cluster.clock(), cluster.metrics.communication_bytes
        work = await rounds.work(number)
        networks = rounds.renewed(work.states)
        continuation, files = await continuation_after(
            cluster, self.training, rounds, networks, self._best
        )
        candidate = Candidate(
            number=number,
            networks=networks,
            renewed=frozenset(work.states),
            updates=work.updates,
            excluded=rounds.left_out.reasons({u.slot for u in work.updates}) | work.excluded,
            rule=rounds.policy.name,
            evidence=work.evidence,
            train_loss=mean_loss(work.updates),
            began_s=began_s,
            bytes_before=bytes_before,
            proofs=rounds.take_proofs(),
            continuation=continuation,
            files=files,
        )
        data = (self.preparation.data.schema, self.preparation.dataset)
        rounds.networks = await commit_round(cluster, self.training, candidate, self._judge, data)
        if self.training.advance.best_round == number:
            self._best = dict(rounds.networks)
        self.rows_last_round = rounds.rows_trained(work.updates)
        self.training.note_clients(work.clients)
        self.delivered.append(len(work.updates))
        for update in work.updates:
            cluster.slots[update.slot].finish_round(
                update.loss, update.rows, update.cpu_s, update.stacked
            )

    async def _finish(self) -> None:
        """After the last round: the best weights are in force, own ones where they help, and measured."""
        advance = self.training.advance
        if self.training.phase == "rounds":
            best = None if advance.best_round == advance.rounds_done else self._best
            personaliser = Personaliser(self.cluster, self.training, self.rounds)
            networks = dict(best or self.rounds.networks)
            personal = await personaliser.run(networks, self._judge)
            await self._cross_fit(networks, personal)
            await commit_final(self.cluster, self.training, self._judge, best, personal)
        if self._retrains:
            await self.rounds.release()
            await self._again().run(self._judge)

    async def _cross_fit(
        self, networks: Mapping[str, NetworkGroup], personal: dict[str, NetworkGroup]
    ) -> None:
        """Answers out of fold, for other roles to learn from, where the data have no rows for them."""
        if not self.preparation.data.crossing:
            return
        await self.rounds.release()
        advance = self.training.advance
        n_rounds = advance.best_round or advance.rounds_done
        fitting = CrossFitting(
            self.cluster, self.training, self.preparation, self._again(), n_rounds
        )
        self._judge.crossed = await fitting.run(networks, personal)

    def _again(self) -> Retraining:
        return Retraining(
            self.cluster, self.training, self.preparation, self._starts, self.boundary.apply
        )

    async def _restore_best(self) -> None:
        if self._best is not None:
            await commit_best(self.cluster, self.training, self._judge, self._best)

    async def _held(self) -> bool:
        """Wait where autonomy has paused the training; False where it has not."""
        await attended(self.cluster)
        if self.training.steering.paused is None:
            return False
        with anyio.move_on_after(self.context.patience.pause_s):
            await self._unpaused()
            return True
        self.steer(paused=None)
        return False

    async def _unpaused(self) -> None:
        """Wait until nothing pauses the training any more.

        Autonomy ends a pause. Where its level does not allow that any more, the pause ends by itself when
        there are workers enough: nothing that autonomy began may outlast its reason.
        """
        while self.training.steering.paused is not None:
            seen = self.cluster.changes.count
            await attended(self.cluster)
            enough = len(self.cluster.slots.healthy("worker")) >= self.least_workers
            if enough and self.training.steering.paused is not None:
                self.steer(paused=None)
            else:
                await self.cluster.changes.wait_beyond(seen)

    async def _at_boundary(self) -> None:
        """Run queued changes, then assign networks and shards to new and returned workers."""
        await self.boundary.apply()
        await self._held()
        self.rounds.follow(self.training.steering)
        self.training.fix_rate_of(self.training.advance.rounds_done + 1)
        await await_majority(self.cluster)
        if self.cluster.committed is not None:
            newest, networks = self.cluster.committed.newest, self.rounds.networks
            self.rounds.networks = {key: newest(network) for key, network in networks.items()}
        await self.rounds.admit_members()
        if self.training.config.federated:
            self.training.note_division(division_of(self.rounds.shards))

    async def _end(self, status: TrainingStatus, error: str | None) -> None:
        """Cancel running requests, release memory, and record the end."""
        training, cluster = self.training, self.cluster
        # Also where it failed since: its nodes are being stopped.
        goes_on = self.interrupted and status not in ENDED_WELL
        if status not in ENDED_WELL:
            await self.rounds.cancel()
        # Nodes release the regions before the engine closes its own references.
        if not self.interrupted:  # else the nodes are stopped anyway
            await self.rounds.release()
            await self._judge.evaluator.release()
        training.count_proofs(self.rounds.take_proofs(), committed=False)
        self.rounds.close()
        self._judge.evaluator.close()
        if self.interrupted or self.scope.cancel_called:
            self.stalled = None
        if self.stalled is not None:
            return
        await end_run(cluster, training, self.boundary, None if goes_on else (status, error))
        self.ended.set()  # last: waiting tasks may read the row
        cluster.changed()
