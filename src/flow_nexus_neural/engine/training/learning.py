"""Learning from outcomes: trained apart from what answers, then admitted or refused.

The model in force goes on answering. Two candidates start from its weights: one learns from the new outcomes
and as many replayed rows, one from the outcomes alone, for where what was true before is wrong now. The one
that is better on outcomes kept for that is held against the model in force on the newest outcomes, which
neither has seen; it answers only if it is better there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from flow_nexus_neural.coordination.admission import Admission
from flow_nexus_neural.coordination.early_stop import rounds_without_gain
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import HistoryPoint, LearningReport
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.version import model_digest
from flow_nexus_neural.engine.storage.cluster_rows import training_row
from flow_nexus_neural.engine.storage.ledger_writer import LateRow
from flow_nexus_neural.engine.training.exchange import mean_loss
from flow_nexus_neural.engine.training.preparation import Preparation
from flow_nexus_neural.engine.training.retraining import Retraining
from flow_nexus_neural.engine.versions.admission import admit, compared, history_rows
from flow_nexus_neural.engine.versions.commit import is_robust, plain_bundle
from flow_nexus_neural.engine.versions.judge import Judge

Networks = dict[str, NetworkGroup]


@dataclass(frozen=True)
class Learnt:
    """A candidate: its best round.

    Attributes:
        replayed: Former rows among those that it learnt from.
        loss: On the outcomes kept for choosing; None where it could not be measured.
    """

    networks: Networks
    number: int
    replayed: int
    loss: float | None


@dataclass
class Learning:
    """One training on outcomes.

    Attributes:
        again: Trains from the weights in force and commits nothing.
        judge: Knows the outcomes that are kept apart.
    """

    cluster: LiveCluster
    training: Training
    preparation: Preparation
    judge: Judge
    again: Retraining

    async def run(self) -> None:
        """Train the candidates, and let the better one answer if it is better than the model in force.

        Raises:
            NeuralError: It could not be done; the model in force stays.
        """
        training = self.training
        refused = training.learning is not None and training.learning.admitted is False
        if training.result is not None or refused:  # a former server had come that far
            return
        data = self.preparation.data
        rows = data.parts["train"]
        alone = rows.at(slice(data.replayed, len(rows)))
        self.training.plan_later(n_folds=int(data.replayed > 0), refit=None)
        self._note(None, data.replayed)
        best = await self._candidate(rows, data.replayed)
        if data.replayed:
            other = await self._candidate(alone, 0)
            best = min(best, other, key=lambda one: float("inf") if one.loss is None else one.loss)
        found = await compared(self.cluster, self.judge, best.networks)
        self._note(found, best.replayed)
        if found.admitted:
            learnt = (self.preparation.dataset, best.number)
            await admit(self.cluster, self.training, self.judge, best.networks, learnt)
        else:
            await self._record_refusal()

    async def _candidate(self, rows: Rows, replayed: int) -> Learnt:
        first = replayed == self.preparation.data.replayed
        cluster, config = self.cluster, self.training.config
        losses: list[float | None] = []
        best: list[Learnt] = []
        began: list[float] = [cluster.clock(), cluster.metrics.communication_bytes]

        async def judged(number: int, networks: Networks) -> bool:
            plain = plain_bundle(networks, 0, self.judge.rule, robust=is_robust(cluster))
            found = await self.judge.validation(networks, plain)
            if not best or _better(found.loss, losses):
                best[:] = [Learnt(dict(networks), number, replayed, found.loss)]
            losses.append(found.loss)
            if first:
                self._count(number, networks, found.loss, began)
            else:
                self.training.advance_later(number)
            began[:] = [cluster.clock(), cluster.metrics.communication_bytes]
            return not config.patience or rounds_without_gain(losses) < config.patience

        select = self.preparation.data.parts["select"]
        await self.again.train_apart(rows, select, config.rounds, judged)
        return best[0]

    def _count(
        self, number: int, networks: Networks, loss: float | None, began: Sequence[float]
    ) -> None:
        """A round of the first candidate is one of the training's."""
        cluster, work = self.cluster, self.again.work
        updates = work.updates if work is not None else ()
        seconds = cluster.clock() - began[0]
        point = HistoryPoint(
            round=number,
            train_loss=mean_loss(updates),
            val_loss=loss,
            accuracy=None,
            bytes=cluster.metrics.communication_bytes - int(began[1]),
            seconds=seconds,
        )
        digest = model_digest({key: network.digest or "" for key, network in networks.items()})
        steps = sum(update.steps for update in updates)
        self.training.commit_round(
            self.training.advance.after(point, steps, digest), point, seconds
        )

    async def _record_refusal(self) -> None:
        cluster, training = self.cluster, self.training
        rows: list[LateRow] = [training_row(cluster.cluster_id, training)]
        rows += history_rows(cluster, training)
        await cluster.ledger.record([training.entry("model_refused")], rows)

    def _note(self, found: Admission | None, replayed: int) -> None:
        data = self.preparation.data
        self.training.note_learning(
            LearningReport(
                outcomes=len(data.parts["train"]) - data.replayed,
                replayed=replayed,
                held_out=len(data.parts["test"]),
                loss_before=found.before if found else None,
                loss_after=found.after if found else None,
                standard_error=found.standard_error if found else None,
                admitted=found.admitted if found else None,
                reason=found.reason if found else None,
            )
        )
        self.cluster.changed()


def _better(loss: float | None, former: Sequence[float | None]) -> bool:
    return loss is not None and all(loss < one for one in former if one is not None)
