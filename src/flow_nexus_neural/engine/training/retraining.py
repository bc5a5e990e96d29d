"""What follows the rounds of a training: earlier folds of a walk-forward split, and the refit on every row.

Both train the same networks again from the same start, on other rows, and commit nothing per round. A fold's
model is measured and forgotten. The refit's model answers afterwards. Source: Hyndman and Athanasopoulos,
"Forecasting: Principles and Practice", 3rd edition, section 5.8, which evaluates on held-out rows and
forecasts from all of them.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import anyio
import numpy as np

from flow_nexus_neural.coordination.early_stop import rounds_without_gain
from flow_nexus_neural.data.folds import Fold
from flow_nexus_neural.data.prepare import PreparedData
from flow_nexus_neural.data.rescaling import rescaled
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import Evaluation, FoldScore, Refit
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.version import Bundle
from flow_nexus_neural.engine.storage.cluster_rows import training_row
from flow_nexus_neural.engine.training.personalisation import Personaliser
from flow_nexus_neural.engine.training.preparation import Preparation
from flow_nexus_neural.engine.training.rounds import Rounds
from flow_nexus_neural.engine.training.strategies import RoundWork
from flow_nexus_neural.engine.versions.commit import is_robust, plain_bundle
from flow_nexus_neural.engine.versions.evaluation import Evaluator, Score
from flow_nexus_neural.engine.versions.final import commit_refit
from flow_nexus_neural.engine.versions.judge import Judge
from flow_nexus_neural.errors import NeuralError, NoWorkers, RoundFailed, StoreUnavailable

Networks = dict[str, NetworkGroup]
KNOWS_ROWS = "this training goes on from weights of an earlier one, which may know these rows"
NOT_SCORED = dict.fromkeys(
    ("best_round", "accuracy", "loss", "rmse", "best_baseline", "baseline", "skill", "error")
)


def _configured(_number: int) -> float | None:
    return None


@dataclass
class _Best:
    """The round with the lowest validation loss so far; none where there are no rows to validate on."""

    number: int | None = None
    networks: Networks | None = None
    losses: list[float | None] = field(default_factory=list)

    def see(self, number: int, loss: float | None, networks: Networks) -> None:
        if loss is not None and all(loss < former for former in self.losses if former is not None):
            self.number, self.networks = number, dict(networks)
        self.losses.append(loss)


def starts_trained(training: Training) -> bool:
    """Whether it goes on from weights that were trained before, which may know any of its rows."""
    return any(network.blob is not None for network in training.starts.values())


def planned_refit(data: PreparedData) -> Refit | None:
    """The refit that will follow; None if none was asked for."""
    if not data.refit or data.whole is None:
        return None
    return Refit(
        state="waiting",
        rows=len(data.whole),
        rounds=None,
        evaluated_version=None,
        model_version=None,
        error=None,
    )


@dataclass
class Retraining:
    """Folds and refit of one training whose rounds are committed.

    Attributes:
        starts: The network groups as they were before the first round.
        between: Awaited before every round: changes of the cluster that wait for a boundary.
        work: Of the last round; None before the first.
    """

    cluster: LiveCluster
    training: Training
    preparation: Preparation
    starts: Mapping[str, NetworkGroup]
    between: Callable[[], Awaitable[None]]
    work: RoundWork | None = None

    async def run(self, judge: Judge) -> None:
        """Run the folds, then the refit. Their own failures are noted in the training and end nothing else.

        What a former server recorded as done is not done again.

        Args:
            judge: Has measured the version in force.

        Raises:
            StoreUnavailable: How far it is could not be made durable; the version in force stays.
        """
        data, training = self.preparation.data, self.training
        if training.phase == "rounds":
            training.enter("folds" if data.folds else "refit")
            await self._record("rounds_evaluated")
        if training.phase == "folds":
            for fold in data.folds[len(training.folds) :]:
                await self._fold(fold)
            if len(training.folds) == len(data.folds):
                self._last_fold(len(data.folds) + 1)
                await self._record("fold_scored")
        if training.refit is not None and training.refit.state != "done":
            training.enter("refit")
            await self._refit(judge)

    async def _fold(self, fold: Fold) -> None:
        """Train a model on one fold's rows and measure its best round; its score is noted."""
        data = _of_fold(self.preparation.data, fold)
        sizes = {"train_rows": len(fold.train), "test_rows": len(fold.test)}
        of_fold = {"fold": fold.number, "begins": fold.begins, "ends": fold.ends, **sizes}
        evaluator = Evaluator(self.cluster, data.parts, f"fold-{fold.number}")
        judge = Judge(evaluator, data, self.preparation.decision.rule)
        try:
            # Its test rows are the training rows of whoever made those weights.
            found = (
                {"error": KNOWS_ROWS}
                if starts_trained(self.training)
                else await self._scored(judge, data, fold.number)
            )
        except StoreUnavailable:
            raise
        except NeuralError as failure:
            found = {"error": str(failure)}
        finally:
            await judge.evaluator.release()
            judge.evaluator.close()
        self.training.add_fold(FoldScore.model_validate({**NOT_SCORED, **of_fold, **found}))
        self.training.advance_later(fold.number * self.training.config.rounds)
        await self._record("fold_scored")
        self.cluster.changed()

    async def _scored(self, judge: Judge, data: PreparedData, fold: int) -> dict[str, object]:
        config, best = self.training.config, _Best()
        planned = config.rounds

        async def judged(number: int, networks: Networks) -> bool:
            found = await judge.validation(networks, self._bundle(networks))
            best.see(number, found.loss, networks)
            self.training.advance_later((fold - 1) * planned + number)
            return not config.patience or rounds_without_gain(best.losses) < config.patience

        last = await self.train_apart(data.parts["train"], data.parts["select"], planned, judged)
        networks = best.networks or last
        _, verdict = await judge.finish(networks, self._bundle(networks))
        return {"best_round": best.number, **_of_evaluation(verdict.evaluation, verdict.test)}

    def _last_fold(self, number: int) -> None:
        """The last fold is the training itself: what was measured of the version in force."""
        result, parts = self.training.result, self.preparation.data.parts
        evaluation = result.evaluation if result else None
        begins, ends = self.preparation.data.test_span
        known = (
            _of_evaluation(evaluation, Score(result.loss, result.accuracy))
            if result and evaluation
            else {"error": "not measured"}
        )
        self.training.add_fold(
            FoldScore.model_validate(
                {
                    **NOT_SCORED,
                    "fold": number,
                    "begins": begins,
                    "ends": ends,
                    "train_rows": len(parts["train"]),
                    "test_rows": len(parts["test"]),
                    "best_round": self.training.advance.best_round,
                    **known,
                }
            )
        )

    async def _refit(self, judge: Judge) -> None:
        """Train on every row for as many rounds as were best, and let the result answer."""
        training, whole = self.training, self.preparation.data.whole
        result = training.result
        if result is None or whole is None:
            return
        done, planned, n_rounds = training.later_done, training.config.rounds, result.served_round
        training.note_refit(
            state="running", rounds=n_rounds, evaluated_version=result.model_version
        )
        await self._record("refit_started")

        async def advanced(number: int, _networks: Networks) -> bool:
            training.advance_later(done + planned * number / n_rounds)
            return True

        try:
            self._refuse_detour(n_rounds)
            # Its workers train on these rows too; nothing is left that they do not have.
            trusted = self.preparation.data.parts["select"]
            rate_of = training.steering.rate_of
            networks = await self.train_apart(
                whole, trusted, n_rounds, advanced, self._own_weights, rate_of
            )
            await commit_refit(self.cluster, training, judge, networks)
        except StoreUnavailable:
            raise
        except NeuralError as failure:
            training.note_refit(state="failed", error=str(failure))

    def _refuse_detour(self, n_rounds: int) -> None:
        """Raise `RoundFailed` where rounds were taken back: so many in a row are another way."""
        steering = self.training.steering
        if steering.diverged and steering.rate_of(n_rounds) is not None:
            raise RoundFailed(
                "the loss diverged and rounds were taken back; a refit would not repeat what was evaluated",
                hint="train again with the learning rate of the last round",
            )

    async def _own_weights(self, rounds: Rounds) -> Networks:
        """What the slots make of the refit's weights that answer with weights of their own.

        Nothing is left to show that it helps; it did with the weights that were evaluated.

        Raises:
            RoundFailed: One did not deliver; old weights beside new ones are a mix that nobody measured.
        """
        found, version = self.training.personalisation, self.cluster.committed
        if found is None or not found.kept or found.epochs is None or version is None:
            return {}
        slots = [s for n in version.networks.values() if n.is_personal for s in n.slots]
        personaliser = Personaliser(self.cluster, self.training, rounds)
        made = await personaliser.trained(rounds.networks, found.epochs, slots)
        lacking = sorted(set(slots) - {slot for one in made.values() for slot in one.slots})
        if lacking:
            raise RoundFailed(
                f"{', '.join(lacking[:8])} did not make its own weights anew",
                hint="see neural_cluster_status for the nodes' errors, and train again",
            )
        return made

    async def train_apart(
        self,
        rows: Rows,
        trusted: Rows,
        n_rounds: int,
        after: Callable[[int, Networks], Awaitable[bool]],
        in_the_end: Callable[[Rounds], Awaitable[Networks]] | None = None,
        rate_of: Callable[[int], float | None] = _configured,
    ) -> Networks:
        """Train from the start on these rows, until `after` a round says no; the networks then.

        What `in_the_end` makes of the last round is added to them. `rate_of` has each round's learning rate.
        """
        course = self.preparation.course(rows, trusted)
        workers = [slot for slot in self.cluster.slots.healthy("worker") if self._trains(slot)]
        if not workers:
            raise NoWorkers(
                "no healthy worker is left to train on", hint="deploy one with neural_node_deploy"
            )
        shards = await self.cluster.context.offload(course.cut, workers)
        rounds, done = Rounds(self.cluster, course, dict(self.starts), shards), False
        added: Networks = {}
        try:
            for number in range(1, n_rounds + 1):
                await self.between()
                rounds.train_at(rate_of(number))
                await rounds.admit_members()
                await rounds.run(partial(self._advance, rounds, number))
                self.training.count_proofs(rounds.take_proofs(), committed=True)
                goes_on = await after(number, rounds.networks)
                self.cluster.changed()
                if not goes_on:
                    break
            if in_the_end is not None:
                added = await in_the_end(rounds)
            done = True
        finally:
            with anyio.CancelScope(shield=True):
                if not done:
                    await rounds.cancel()
                self.training.count_proofs(rounds.take_proofs(), committed=False)
                await rounds.release()
        return {**rounds.networks, **added}

    async def _advance(self, rounds: Rounds, number: int) -> None:
        self.work = await rounds.work(number)
        rounds.networks = rounds.renewed(self.work.states)

    def _bundle(self, networks: Networks) -> Bundle:
        """Of a model that no prediction is asked of."""
        rule, robust = self.preparation.decision.rule, is_robust(self.cluster)
        return plain_bundle(networks, 0, rule, robust=robust)

    async def _record(self, event: str) -> None:
        """Make durable how far the training is. Raises `StoreUnavailable`."""
        self.training.note_progress()
        row = partial(training_row, self.cluster.cluster_id, self.training)
        await self.cluster.ledger.record([self.training.entry(event)], [row])

    def _trains(self, slot: Slot) -> bool:
        return any(slot.name in network.slots for network in self.starts.values())


def _of_fold(data: PreparedData, fold: Fold) -> PreparedData:
    """The data as one fold sees them: its own parts, and no others."""
    if data.whole is None:
        raise ValueError("a fold indexes the whole data")
    nothing = np.zeros(0, dtype=np.int64)
    own = {"train": fold.train, "select": fold.select, "test": fold.test}
    parts = {part: data.whole.at(own.get(part, nothing)) for part in data.parts}
    schema, parts = rescaled(data.schema, parts)
    return replace(data, schema=schema, parts=parts, whole=None, folds=())


def _of_evaluation(evaluation: Evaluation, measured: Score) -> dict[str, object]:
    """What a fold's score has of an evaluation."""
    best = evaluation.best_baseline
    return {
        "accuracy": measured.accuracy,
        "loss": measured.loss,
        "rmse": evaluation.rmse,
        "best_baseline": best,
        "baseline": evaluation.baselines[best] if best and evaluation.baselines else None,
        "skill": evaluation.skill,
    }
