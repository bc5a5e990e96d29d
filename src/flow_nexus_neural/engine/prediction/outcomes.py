"""The one place where outcomes of predictions arrive: recorded once the reply is fixed, and learnt from.

An outcome comes with the record that is predicted (`expectedOutcome`), whose prediction never sees it, or in
a later call under the id of the prediction. It is durable before the caller is told so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import anyio
import numpy as np

from flow_nexus_neural.coordination.autonomy.observation import (
    Observation,
    SlotObservation,
    cluster_level,
)
from flow_nexus_neural.data.outcomes import ReadOutcome, outcome_of, read_outcome
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.prediction.adaptive import levels_after
from flow_nexus_neural.engine.prediction.answer import Answer
from flow_nexus_neural.engine.reports import PredictionReport
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.engine.state.feedback import Awaited, Feedback, GivenAnswer, RecordedOutcome
from flow_nexus_neural.engine.versions.input_drift import watch_inputs
from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.kernels.class_weight import without_class_weight
from flow_nexus_neural.kernels.hedge import after_outcome, outcome_losses

RECORD_LEVEL = 0.7
"""Autonomy that it takes to record what records happen to say; what is sent as outcomes needs none."""
MAX_REASONS = 4


@dataclass
class Gathered:
    """Outcomes that one call brought, and why others are not recorded, by how many there are of each."""

    outcomes: list[RecordedOutcome] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    of_former: int = 0

    def refuse(self, why: str, n: int = 1) -> None:
        """So many outcomes are not recorded."""
        if n:
            self.refused[why] = self.refused.get(why, 0) + n

    @property
    def warnings(self) -> list[str]:
        """Why outcomes are not recorded, or teach nothing."""
        reasons = list(self.refused.items())
        told = [f"{_outcomes(n)} not recorded: {why}" for why, n in reasons[:MAX_REASONS]]
        more = sum(n for _, n in reasons[MAX_REASONS:])
        if more:
            told.append(f"{_outcomes(more)} not recorded for other reasons")
        if self.of_former:
            told.append(
                f"{_outcomes(self.of_former)} recorded of a version that is not in force any more: the"
                " weights in force do not follow them"
            )
        return told


async def with_outcomes(
    cluster: LiveCluster, request: PredictRequest, answer: Answer, made: PredictionReport
) -> PredictionReport:
    """Record the outcomes that a call brought, and say how many; the answer itself is fixed by now.

    A prediction whose outcomes are not all stored is remembered, so that those that miss can be sent later.

    Args:
        cluster: Its cluster.
        request: What was asked, with the outcomes of earlier predictions.
        answer: What the reply is made of, with what its records say of their own outcomes.
        made: The reply.
    """
    gathered, recorded, own = Gathered(), 0, made.prediction_id
    awaited = _awaited(answer, made)
    if answer.adapted.outcomes or request.outcomes:
        # Held from the look at what is awaited on, so that no outcome is recorded by two calls.
        async with cluster.recording:
            _from_records(cluster, answer, awaited, own, gathered)
            for prediction_id, given in (request.outcomes or {}).items():
                _of_earlier(cluster, prediction_id, given, gathered)
            recorded = await _record(cluster, gathered)
    stored = gathered.outcomes if recorded else []
    awaited = replace(awaited, told=frozenset(o.row for o in stored if o.prediction_id == own))
    if len(awaited.told) < len(awaited.x):
        cluster.recent.remember(own, awaited)
    if not recorded and not gathered.refused:
        return made
    warnings = [*made.warnings, *gathered.warnings]
    return made.model_copy(update={"feedback_recorded": recorded, "warnings": warnings})


async def _record(cluster: LiveCluster, gathered: Gathered) -> int:
    """Make outcomes durable and learn from them; returns how many. A disk that refuses costs them alone."""
    outcomes = gathered.outcomes
    if not outcomes:
        return 0
    if cluster.state.terminated_at is not None:
        gathered.refuse("the cluster was ended", len(outcomes))
        return 0
    feedback = cluster.state.feedback
    for outcome in outcomes:
        feedback = learnt(cluster, feedback, outcome)
    # Not interrupted: what is durable and not counted would take the place of the next outcome.
    with anyio.CancelScope(shield=True):
        store = cluster.context.store
        try:
            kept, nbytes = await store.write_outcomes(cluster.cluster_id, outcomes, feedback)
        except NeuralError as failure:
            gathered.refuse(failure.message, len(outcomes))
            return 0
        cluster.state.note_feedback(replace(feedback, kept=kept, kept_bytes=nbytes))
    for outcome in outcomes:
        cluster.recent.settle(outcome.prediction_id, outcome.row)
    committed = cluster.committed
    gathered.of_former = sum(committed is None or o.version != committed.version for o in outcomes)
    cluster.changed()
    cluster.context.spawn(watch_inputs, cluster)
    return len(outcomes)


def learnt(cluster: LiveCluster, feedback: Feedback, outcome: RecordedOutcome) -> Feedback:
    """What is known with one more outcome.

    Weights follow the outcomes of the version in force only: those of an earlier one say nothing of it.
    """
    feedback = replace(feedback, recorded=feedback.recorded + 1, damaged=False)
    committed = cluster.committed
    if committed is None or committed.version != outcome.version:
        return feedback
    weights = committed.bundle.slot_weights
    slots = [slot for slot in outcome.logits if slot in weights]
    if not slots:
        return feedback
    outputs = without_class_weight(
        np.array([[outcome.logits[slot]] for slot in slots]), committed.bundle.rule.class_weight
    )[:, 0]
    losses = outcome_losses(outputs, outcome.outcome, committed.schema.task)
    own = dict(zip(slots, losses.tolist(), strict=True))
    hedge = after_outcome(feedback.of_version(outcome.version), weights, own)
    levels = feedback.levels_of(outcome.version)
    moved = levels_after(committed.bundle, committed.schema, levels, outcome)
    return replace(feedback.with_outcome(outcome.version, hedge), levels=moved)


def _from_records(
    cluster: LiveCluster, answer: Answer, awaited: Awaited, prediction_id: str, gathered: Gathered
) -> None:
    schema, level = answer.committed.schema, _autonomy(cluster)
    for row, given in answer.adapted.outcomes.items():
        found = read_outcome(schema, given)
        if found is None:
            continue
        if level is None or level < RECORD_LEVEL:
            shown = "unknown" if level is None else f"{level:g}"
            gathered.refuse(f"the cluster's autonomy is {shown}; {RECORD_LEVEL:g} records outcomes")
            continue
        _take(cluster, awaited, (prediction_id, row), found, gathered)


def _of_earlier(
    cluster: LiveCluster, prediction_id: str, given: object, gathered: Gathered
) -> None:
    """Outcomes of an earlier prediction: one, or a list with one for every record, null where unknown."""
    committed = cluster.committed
    awaited = cluster.recent.by_id.get(prediction_id)
    values = given if isinstance(given, list) else [given]
    n_given = sum(value is not None for value in values)
    if awaited is None or committed is None:
        gathered.refuse(
            f"{prediction_id[:40]!r} is none of the last predictions that still have no outcome",
            n_given,
        )
        return
    if len(values) != len(awaited.x):
        gathered.refuse(
            f"{prediction_id} predicted {len(awaited.x)} records, and {len(values)} outcomes were given",
            len(values),
        )
        return
    if awaited.schema_digest != committed.schema.digest:
        gathered.refuse(f"{prediction_id} was answered by a model of other data", n_given)
        return
    for row, value in enumerate(values):
        if value is not None and row in awaited.told:
            gathered.refuse(f"{prediction_id} has the outcome of record {row} already")
        elif value is not None:
            found = outcome_of(committed.schema, "outcome", value)
            _take(cluster, awaited, (prediction_id, row), found, gathered)


def _take(
    cluster: LiveCluster,
    awaited: Awaited,
    place: tuple[str, int],
    found: ReadOutcome,
    gathered: Gathered,
) -> None:
    prediction_id, row = place
    if found.value is None:
        gathered.refuse(found.why or "it cannot be read")
        return
    gathered.outcomes.append(
        RecordedOutcome(
            prediction_id=prediction_id,
            row=row,
            version=awaited.version,
            schema_digest=awaited.schema_digest,
            symbol=awaited.symbols[row],
            outcome=found.value,
            logits={
                slot: tuple(float(v) for v in logits[row])
                for slot, logits in awaited.logits.items()
            },
            x=awaited.x[row],
            at=cluster.context.timestamp(),
            answer=awaited.answers[row] if awaited.answers else None,
        )
    )


def _awaited(answer: Answer, made: PredictionReport) -> Awaited:
    return Awaited(
        version=answer.committed.version,
        schema_digest=answer.committed.schema.digest,
        logits=answer.logits,
        x=answer.adapted.x,
        symbols=tuple(answer.adapted.symbols),
        answers=tuple(_given_answers(made)),
    )


def _given_answers(made: PredictionReport) -> Iterator[GivenAnswer]:
    """What a reply tells of each record."""
    for row, (prediction, confidence) in enumerate(
        zip(made.predictions, made.confidences, strict=True)
    ):
        interval = made.interval[row] if made.interval else None
        low, high = (interval.low, interval.high) if interval else (None, None)
        yield GivenAnswer(prediction, confidence, low, high)


def _autonomy(cluster: LiveCluster) -> float | None:
    """The cluster's effective level."""
    slots: Sequence[SlotObservation] = [
        SlotObservation(slot=slot.name, state=slot.state, autonomy=slot.spec.autonomy)
        for slot in cluster.slots
    ]
    return cluster_level(
        Observation(at_s=cluster.clock(), daa_enabled=cluster.spec.daa_enabled, slots=slots)
    )


def _outcomes(n: int) -> str:
    return f"{n} outcome{'s' * (n > 1)}"
