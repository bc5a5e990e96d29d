"""Shortens the answer to many records to a size that hosts show, with a warning about what was left out."""

from collections.abc import Callable

from flow_nexus_neural.server.rounding import OnWire
from flow_nexus_neural.server.schemas import PredictResult
from flow_nexus_neural.vocabulary import Label

MAX_ANSWER_BYTES = 40_000
MAX_FULL_BYTES = 50_000
"""Where the answers of the nodes were asked for; beyond this hosts cut a reply without a word."""
DIGITS = 4
CUT = f"probabilities were cut to {DIGITS} digits"

Shortened = tuple[PredictResult, str]


def answer_short_enough(answer: PredictResult, *, full: bool = False) -> OnWire[PredictResult]:
    """Leave out what says least, step by step, until the answer keeps its budget.

    Predictions and confidences always stay. An answer of usual size is returned unchanged.

    Args:
        answer: As the engine gave it.
        full: Whether the answers of the nodes were asked for; they are left out last then.
    """
    budget = MAX_FULL_BYTES if full else MAX_ANSWER_BYTES
    by_node_or_decision = (_without_node_answers, _without_decision)
    steps: tuple[Callable[[PredictResult], Shortened | None], ...] = (
        _with_fewer_digits,
        _without_intervals,
        _without_sets,
        _without_probabilities,
        *(reversed(by_node_or_decision) if full else by_node_or_decision),
    )
    told: list[str] = []
    whole = now = OnWire(answer)
    for shorten in steps:
        if now.n_bytes <= budget - sum(len(notice) for notice in told):
            break
        shortened = shorten(answer)
        if shortened is not None:
            answer, notice = shortened
            told.append(notice)
            now = OnWire(answer)
    if now is whole:
        return whole
    if answer.probabilities is None and answer.node_predictions is None:
        told = [notice for notice in told if notice != CUT]
    n_records = len(answer.predictions)
    fitting = max(1, int(n_records * budget / whole.n_bytes * 0.95))
    told.append(f"to get everything, send at most {fitting} of these records per call")
    return OnWire(answer.model_copy(update={"warnings": [*answer.warnings, "; ".join(told)]}))


def _with_fewer_digits(answer: PredictResult) -> Shortened | None:
    by_node = answer.node_predictions
    if answer.probabilities is None and (by_node is None or answer.task != "binary"):
        return None
    probabilities = answer.probabilities and [
        [round(p, DIGITS) for p in row] for row in answer.probabilities
    ]
    if by_node is not None and answer.task == "binary":
        by_node = {
            node: [_short(value) for value in values] if isinstance(values, list) else values
            for node, values in by_node.items()
        }
    update = {"probabilities": probabilities, "node_predictions": by_node}
    return answer.model_copy(update=update), CUT


def _short(value: Label) -> Label:
    return round(value, DIGITS) if isinstance(value, float) else value


def _without_intervals(answer: PredictResult) -> Shortened | None:
    if not answer.interval:
        return None
    half = (answer.interval[0].high - answer.interval[0].low) / 2
    notice = f"interval was left out: it is each prediction plus and minus {half:.6g}"
    return answer.model_copy(update={"interval": None}), notice


def _without_sets(answer: PredictResult) -> Shortened | None:
    if answer.prediction_set is None:
        return None
    return answer.model_copy(update={"prediction_set": None}), "prediction_set was left out"


def _without_probabilities(answer: PredictResult) -> Shortened | None:
    if answer.probabilities is None:
        return None
    return answer.model_copy(update={"probabilities": None}), "probabilities were left out"


def _without_node_answers(answer: PredictResult) -> Shortened | None:
    if answer.node_predictions is None:
        return None
    update = {"node_predictions": None, "individual_predictions": None}
    return answer.model_copy(update=update), "node_predictions were left out"


def _without_decision(answer: PredictResult) -> Shortened | None:
    if answer.decision is None:
        return None
    return answer.model_copy(update={"decision": None}), "decision was left out"
