"""One more hop of a prediction, to the nodes whose own networks combine or judge what the serving nodes said.

It is made only where its answer is used. Their answers are bounded and judged as those of serving nodes are,
and where none comes the prediction goes on without, and says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.prediction.answer import Answer
from flow_nexus_neural.engine.prediction.fan_out import FanOut
from flow_nexus_neural.engine.prediction.question import Question
from flow_nexus_neural.engine.prediction.reply import as_measured, served
from flow_nexus_neural.engine.state.roles import Purpose
from flow_nexus_neural.engine.versions.doubt import bounded, features_of
from flow_nexus_neural.engine.versions.loading import role_slots
from flow_nexus_neural.kernels.class_weight import without_class_weight
from flow_nexus_neural.kernels.probabilities import Float64s, sigmoid
from flow_nexus_neural.kernels.stacking import stacker_features

LEAST_S = 0.02
"""A hop gets so long, however much of the deadline the serving nodes have used up."""


@dataclass(frozen=True)
class Heard:
    """What the nodes of one role answered.

    Attributes:
        outputs: [rows, n_outputs] mean over those that answered; None if nobody did.
        excluded: Who did not, by slot, with reasons.
    """

    outputs: Float64s | None
    excluded: Mapping[str, str]


async def with_roles(cluster: LiveCluster, answer: Answer, limit_s: float) -> Answer:
    """The answer with what the cluster's other roles make of it, as far as the version uses them.

    Args:
        cluster: Of the nodes.
        answer: Of the serving nodes.
        limit_s: How long each hop may take.
    """
    if answer.stacks:
        heard = await ask_role(cluster, answer, "stacker", stack_rows(answer), limit_s)
        answer = replace(
            answer,
            stacked=heard.outputs,
            role_excluded={**answer.role_excluded, **heard.excluded},
        )
    return await _doubted(cluster, answer, limit_s) if doubts(answer) else answer


def doubts(answer: Answer) -> bool:
    """Whether validators are to say how sure the decisions are: of the kind from which they have learnt."""
    of, mode = answer.committed.bundle, answer.request.aggregation
    known = of.roles.confident_in(mode) and as_measured(answer)
    if of.roles.uses("stacker") and mode == "ensemble" and answer.stacked is None:
        return False
    decides = answer.quorum is None or answer.quorum.met
    return known and decides and answer.threshold == of.rule.threshold


async def _doubted(cluster: LiveCluster, answer: Answer, limit_s: float) -> Answer:
    made, of = served(answer), answer.committed.bundle
    x = features_of(made, None)
    heard = await ask_role(cluster, answer, "confidence", x, limit_s)
    if heard.outputs is None:
        return replace(answer, role_excluded={**answer.role_excluded, **heard.excluded})
    calibrator = of.roles.calibrators[answer.request.aggregation]
    sure = sigmoid(calibrator.apply(heard.outputs)[:, 0])
    return replace(answer, sure=bounded(sure, made, robust=of.robust))


async def ask_role(
    cluster: LiveCluster,
    answer: Answer,
    purpose: Purpose,
    x: NDArray[np.float32],
    limit_s: float,
) -> Heard:
    """Ask all nodes of a role that hold the version's network; the mean of their outputs."""
    committed = answer.committed
    trained = committed.bundle.roles.for_purpose(purpose)
    asked = role_slots(cluster, committed, purpose)
    names = {slot.name for slot in asked}
    fan_out = FanOut(cluster, Question(committed, x, usual=not answer.adapted.ood))
    for name in trained:
        if name not in names:
            fan_out.excluded[name] = _state_of(cluster, name)
    await fan_out.ask(asked, max(LEAST_S, limit_s), None)
    heard = [fan_out.logits[name] for name in trained if name in fan_out.logits]
    outputs: Float64s | None = np.mean(heard, axis=0) if heard else None
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
