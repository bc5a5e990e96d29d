"""One more hop of a prediction, to the nodes whose own networks combine or judge what the serving nodes said.

It is made only where its answer is used. Their answers are bounded and judged as those of serving nodes are,
and where none comes the prediction goes on without, and says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.schema import Adapted
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.prediction.answer import Answer
from flow_nexus_neural.engine.prediction.fan_out import FanOut
from flow_nexus_neural.engine.prediction.question import MAX_DEADLINE_S, Question
from flow_nexus_neural.engine.prediction.reply import as_measured, served
from flow_nexus_neural.engine.state.roles import STUDENT, Purpose
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.versions.doubt import bounded, features_of
from flow_nexus_neural.engine.versions.loading import role_slots
from flow_nexus_neural.kernels.class_weight import without_class_weight
from flow_nexus_neural.kernels.probabilities import Float64s, sigmoid
from flow_nexus_neural.kernels.stacking import stacker_features
from flow_nexus_neural.vocabulary import Aggregation

LEAST_S = 0.02
"""A hop gets so long, however much of the deadline the serving nodes have used up."""


@dataclass(frozen=True)
class Heard:
    """What the nodes of one role answered.

    Attributes:
        outputs: [rows, n_outputs] by slot.
        excluded: Who did not, by slot, with reasons.
    """

    outputs: Mapping[str, Float64s] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)

    @property
    def mean(self) -> Float64s | None:
        """Mean over those that answered; None if nobody did."""
        told = list(self.outputs.values())
        return np.mean(told, axis=0) if told else None


class Ahead:
    """A question to the students that goes out together with the one to the serving nodes."""

    def __init__(self) -> None:
        self._heard: Heard | None = None
        self._done = anyio.Event()

    @classmethod
    def begin(
        cls, cluster: LiveCluster, committed: CommittedVersion, mode: Aggregation, adapted: Adapted
    ) -> Self | None:
        """Ask now; None where what they say is used only if too few serving nodes answer."""
        roles = committed.bundle.roles
        stacks = mode == "ensemble" and roles.uses("stacker")
        if not (roles.uses("student") and (stacks or roles.confident_in(mode))):
            return None
        made = cls()
        cluster.context.spawn(made._run, cluster, committed, adapted)
        return made

    async def heard(self, limit_s: float) -> Heard:
        """What they said, if they say it in time."""
        with anyio.move_on_after(max(LEAST_S, limit_s)):
            await self._done.wait()
        return self._heard or Heard()

    async def _run(
        self, cluster: LiveCluster, committed: CommittedVersion, adapted: Adapted
    ) -> None:
        question = Question(committed, adapted.x, usual=not adapted.ood)
        try:
            self._heard = await ask_role(cluster, question, "student", MAX_DEADLINE_S)
        finally:
            self._done.set()


async def with_roles(
    cluster: LiveCluster, answer: Answer, until_s: float, ahead: Ahead | None = None
) -> Answer:
    """The answer with what the cluster's other roles make of it, as far as the version uses them.

    Args:
        cluster: Of the nodes.
        answer: Of the serving nodes.
        until_s: When the last hop is to have ended, by the cluster's clock.
        ahead: The question to the students, where it was put already.
    """
    answer = await _with_students(cluster, answer, until_s, ahead)
    if answer.stacks:
        question = _question(answer, stack_rows(answer))
        heard = await ask_role(cluster, question, "stacker", until_s - cluster.clock())
        answer = _heard(replace(answer, stacked=heard.mean), heard)
    if not doubts(answer):
        return answer
    return await _doubted(cluster, answer, until_s - cluster.clock())


async def _with_students(
    cluster: LiveCluster, answer: Answer, until_s: float, ahead: Ahead | None
) -> Answer:
    """The answer with what students say, where it is used: beside the others, or instead of too few."""
    of = answer.committed.bundle
    if not of.roles.uses("student"):
        return answer
    if ahead is None and not answer.lacks_nodes:
        return answer
    limit_s = until_s - cluster.clock()
    if ahead is not None:
        heard = await ahead.heard(limit_s)
    else:
        heard = await ask_role(cluster, _question(answer, answer.adapted.x), "student", limit_s)
    slots = [cluster.slots[name] for name in heard.outputs]
    return _heard(replace(answer, students=heard.outputs, student_slots=slots), heard)


def doubts(answer: Answer) -> bool:
    """Whether validators are to say how sure the decisions are: of the kind from which they have learnt."""
    of, mode = answer.committed.bundle, answer.request.aggregation
    if not of.roles.confident_in(mode) or answer.by_student or not as_measured(answer):
        return False
    lacks_stack = of.roles.uses("stacker") and mode == "ensemble" and answer.stacked is None
    lacks_student = of.roles.uses("student") and not answer.students
    decides = answer.quorum is None or answer.quorum.met
    known = not lacks_stack and not lacks_student
    return known and decides and answer.threshold == of.rule.threshold


async def _doubted(cluster: LiveCluster, answer: Answer, limit_s: float) -> Answer:
    made, of = served(answer), answer.committed.bundle
    student = answer.student if of.roles.uses("student") else None
    question = _question(answer, features_of(made, student))
    heard = await ask_role(cluster, question, "confidence", limit_s)
    said, answer = heard.mean, _heard(answer, heard)
    if said is None:
        return answer
    calibrator = of.roles.calibrators[answer.request.aggregation]
    sure = sigmoid(calibrator.apply(said)[:, 0])
    return replace(answer, sure=bounded(sure, made, robust=of.robust))


def _question(answer: Answer, x: NDArray[np.float32]) -> Question:
    return Question(answer.committed, x, usual=not answer.adapted.ood)


def _heard(answer: Answer, heard: Heard) -> Answer:
    return replace(answer, role_excluded={**answer.role_excluded, **heard.excluded})


async def ask_role(
    cluster: LiveCluster, question: Question, purpose: Purpose, limit_s: float
) -> Heard:
    """Ask all nodes of a role that hold the version's network."""
    trained = question.committed.bundle.roles.for_purpose(purpose)
    asked = role_slots(cluster, question.committed, purpose)
    names = {slot.name for slot in asked}
    fan_out = FanOut(cluster, question)
    for name in trained:
        if name not in names:
            fan_out.excluded[name] = _state_of(cluster, name)
    await fan_out.ask(asked, max(LEAST_S, limit_s), None)
    outputs = {name: fan_out.logits[name] for name in trained if name in fan_out.logits}
    return Heard(outputs, dict(fan_out.excluded))


def stack_rows(answer: Answer) -> NDArray[np.float32]:
    """[rows, features] of what a stacking network of the version reads."""
    committed, layout = answer.committed, answer.committed.bundle.roles.layout
    if layout is None:
        raise ValueError("a version that stacks has a layout")
    weights = committed.bundle.rule.class_weight
    answers = {
        slot.name: without_class_weight(answer.logits[slot.name], weights)
        for slot in answer.answered
    }
    if answer.student is not None:
        answers[STUDENT] = answer.student
    places = {symbol: index for index, symbol in enumerate(committed.schema.symbols)}
    symbols = [places.get(symbol, -1) if symbol else -1 for symbol in answer.adapted.symbols]
    of_rows = np.asarray(symbols, np.int64)
    return stacker_features(layout, answers, committed.schema.task, of_rows)


def _state_of(cluster: LiveCluster, name: str) -> str:
    """Why a node is not asked."""
    if name not in cluster.slots.names():
        return "removed"
    slot = cluster.slots[name]
    return slot.last_error or ("it does not hold this version" if slot.healthy else slot.state)
