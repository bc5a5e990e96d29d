"""From the nodes' answers to the reply: fusion, calibration, confidence, agreement."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flow_nexus_neural.coordination.quorum import Quorum, prediction_quorum
from flow_nexus_neural.data.schema import Adapted
from flow_nexus_neural.engine.prediction.answer import Answer, Floats, digest_of
from flow_nexus_neural.engine.prediction.no_quorum import quorum_report, split_votes, withheld
from flow_nexus_neural.engine.prediction.role_use import (
    combined_by,
    of_confidence,
    of_ensemble,
    of_students,
    served_by_students,
    source_of,
    without_stacker,
)
from flow_nexus_neural.engine.reports import (
    Exclusion,
    IgnoredInput,
    IndividualPrediction,
    InputReport,
    Interval,
    PredictionReport,
)
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.engine.state.version import Bundle, CommittedVersion
from flow_nexus_neural.engine.versions.evaluation import model_warnings, positive_class
from flow_nexus_neural.engine.versions.served import Served, serve
from flow_nexus_neural.engine.versions.sureness import half_width, sets_of
from flow_nexus_neural.kernels.conformal import LEVEL
from flow_nexus_neural.kernels.decision import DecisionRule
from flow_nexus_neural.kernels.ensemble import Fused
from flow_nexus_neural.kernels.probabilities import EPSILON
from flow_nexus_neural.kernels.robust_fusion import UNDECIDED
from flow_nexus_neural.vocabulary import NO_QUORUM, Label

MAX_NODE_VALUES = 4000
STALE = "answered by the last committed version, and none can follow it now"
NODE_ANSWERS_LEFT_OUT = "node_predictions left out"


def report(
    cluster_id: str, prediction_id: str, answer: Answer, made: Served | None = None
) -> PredictionReport:
    """The reply to a prediction; without a decision where a quorum is needed and was not met.

    Args:
        cluster_id: Of the cluster.
        prediction_id: Of the prediction.
        answer: What it is made of.
        made: What `served` made of it, where the caller has that already.
    """
    schema, bundle = answer.committed.schema, _bundle(answer)
    made = made or served(answer)
    fused = made.final
    labels, single = _labels(answer, fused), not answer.adapted.is_list
    confidence = _confidence(answer, made.certainty)
    per_node, individual, node_warnings = _node_answers(answer, fused)
    decisions, quorum = _decisions(answer, fused), answer.quorum
    weights_source, weights_outcomes = answer.weighting.told_with(answer.request.aggregation)
    told = PredictionReport(
        **_of_nodes(answer),
        node_predictions=per_node,
        individual_predictions=individual,
        cluster_id=cluster_id,
        prediction_id=prediction_id,
        task=schema.task,
        prediction=labels[0] if single else None,
        predictions=labels,
        confidence=_mean(confidence),
        confidences=list(confidence),
        probabilities=_rows(fused.probabilities) if schema.task == "multiclass" else None,
        interval=_intervals(answer, fused.values),
        prediction_set=_prediction_sets(answer, made),
        adapted_level=_adapted_level(answer),
        raw_prediction=_labels(answer, made.raw)[0] if single else None,
        calibrated=made.calibrated,
        classes=list(schema.classes) if schema.classes is not None else None,
        positive_class=positive_class(schema),
        threshold=bundle.rule.threshold if schema.task == "binary" else None,
        decision=decisions,
        consensus=float(fused.consensus.mean()),
        node_agreement=float(fused.node_agreement.mean()),
        effective_ensemble_size=len({digest_of(answer, slot) for slot in answer.tellers}),
        error_correlation=bundle.error_correlation,
        aggregation=answer.request.aggregation,
        weights_source=weights_source,
        weights_outcomes=weights_outcomes,
        symbol_experts=_symbol_experts(answer),
        confidence_source=source_of(answer, confidence),
        stacker=combined_by(answer),
        model_version=answer.committed.version,
        bundle_sha=answer.committed.sha,
        input_report=_input_report(answer.adapted),
        latency_ms=answer.elapsed_ms,
        synthetic_training_data=answer.committed.dataset.synthetic,
        feedback_recorded=0,
        output=None,
        warnings=_warnings(answer, decisions, node_warnings),
    )
    return told if quorum is None or quorum.met else withheld(told, quorum)


def _of_nodes(answer: Answer) -> dict[str, Any]:
    """Who answered and who did not, and whether that is enough."""
    n_used, n_expected, quorum = len(answer.logits), len(answer.slots), answer.quorum
    return {
        "nodes_used": n_used,
        "nodes_expected": n_expected,
        "excluded_nodes": _exclusions(answer),
        "quorum": None if quorum is None else quorum_report(quorum),
        "source": "student" if answer.by_student else "nodes",
        "backends": dict(Counter(answer.backends.values())),
        "degraded": n_used < n_expected,
        "degraded_reason": _shortage(quorum or prediction_quorum(n_expected, n_used), n_expected),
        "stale": answer.undecided is not None,
    }


def _symbol_experts(answer: Answer) -> dict[str, list[str]] | None:
    """By symbol of the records, who counts twice for it; None where nobody does."""
    if not answer.routes:
        return None
    experts = answer.committed.bundle.experts
    found = {
        symbol: [slot.node_id for slot in answer.slots if symbol in experts.get(slot.name, ())]
        for symbol in dict.fromkeys(answer.adapted.symbols)
        if symbol is not None
    }
    return {symbol: nodes for symbol, nodes in found.items() if nodes} or None


def _exclusions(answer: Answer) -> list[Exclusion]:
    return [
        Exclusion(node_id=slot.node_id, reason=answer.excluded[slot.name])
        for slot in answer.slots
        if slot.name in answer.excluded
    ]


def _shortage(verdict: Quorum, n_expected: int) -> str | None:
    """How many nodes are missing; None when all answered."""
    if verdict.got == n_expected:
        return None
    wanted = "" if verdict.met else f"; {verdict.needed} are wanted"
    return f"{verdict.got} of {n_expected} nodes answered{wanted}"


def served(answer: Answer) -> Served:
    """The answers of the nodes, combined and calibrated.

    Without a quorum they are combined as if none of the nodes could lie, for what is told of each node alone;
    `report` withholds the combination.
    """
    answered, bundle = answer.answered, _bundle(answer)
    if answer.by_student:
        return served_by_students(answer, bundle)
    if answer.quorum is not None and not answer.quorum.met:
        bundle = replace(bundle, robust=False)
    made = serve(
        bundle if as_measured(answer) else replace(bundle, calibrators={}),
        answer.committed.schema,
        answer.request.aggregation,
        np.stack([answer.logits[slot.name] for slot in answered]),
        answer.weights_of(answered),
        expected_weight=answer.weights_of(answer.slots).sum(axis=0),
        n_expected=len(answer.slots),
        stacked=answer.stacked,
    )
    return made if answer.sure is None else replace(made, sure=answer.sure)


def _bundle(answer: Answer) -> Bundle:
    """The version's bundle with the threshold of this call, without what belongs to networks not heard."""
    rule = decision_rule(answer.committed, answer.request)
    bundle = replace(answer.committed.bundle, rule=rule)
    return bundle if answer.stacked is not None else without_stacker(bundle)


def decision_rule(committed: CommittedVersion, request: PredictRequest) -> DecisionRule:
    """The version's rule, with the threshold of this call if it has one."""
    rule, threshold = committed.bundle.rule, request.threshold
    return rule if threshold is None else replace(rule, threshold=threshold)


def as_measured(answer: Answer) -> bool:
    """Whether calibration was measured of answers mixed like this one.

    One model gives one answer, however often and with what weights it is counted. Of several models another
    mix, by other weights than those of the version or without some nodes, has not been measured. Equal shares
    of all nodes, as in a mean, do not depend on weights.
    """
    whole = len(answer.logits) == len(answer.slots)
    if answer.by_student:
        return False
    if answer.stacked is not None:
        return whole and not (answer.missing("stacker") or answer.missing("student"))
    unweighted = answer.request.aggregation in ("mean", "majority")
    return answer.one_model or (whole and (unweighted or answer.weighting.as_committed))


def _labels(answer: Answer, fused: Fused) -> list[Label | None]:
    """What `predictions` lists: P(class 1), a class label, or a value."""
    schema = answer.committed.schema
    if schema.task == "multiclass" and fused.decisions is not None and schema.classes is not None:
        classes = schema.classes
        return [None if k == UNDECIDED else classes[k] for k in fused.decisions]
    return [float(value) for value in fused.values]


def _decisions(answer: Answer, fused: Fused) -> list[str] | None:
    classes = answer.committed.schema.classes
    if fused.decisions is None or classes is None:
        return None
    return [NO_QUORUM if k == UNDECIDED else str(classes[k]) for k in fused.decisions]


def _confidence(answer: Answer, certainty: Floats | None) -> list[float | None]:
    """Certainty drawn towards chance by missing nodes and by inputs missing or unlike the training rows.

    c' = min(c, c0 + (c - c0) x familiar x K / N) with c0 = 1 / classes: a documented heuristic, not a
    measurement. What is missing never raises it: a certainty below chance, of a class decided by a threshold,
    stays as it is. Calibration was measured on rows like the training rows; it says nothing about others.
    Regression has no decision whose probability was measured, so it has none.
    """
    classes = answer.committed.schema.classes
    if certainty is None or not classes:
        return [None] * len(answer.adapted.x)
    chance = 1.0 / len(classes)
    bounded = np.clip(certainty, EPSILON, 1 - EPSILON)
    present = answer.adapted.familiar * len(answer.logits) / max(1, len(answer.slots))
    drawn = np.minimum(bounded, chance + (bounded - chance) * present)
    return [None if np.isnan(c) else float(c) for c in drawn]


def _intervals(answer: Answer, values: Floats) -> list[Interval] | None:
    if answer.committed.schema.task != "regression" or not as_measured(answer):
        return None
    half = half_width(_bundle(answer), answer.request.aggregation, answer.level)
    if half is None:
        return None
    level = float(LEVEL)
    return [Interval(low=float(v) - half, high=float(v) + half, level=level) for v in values]


def _adapted_level(answer: Answer) -> float | None:
    """The level at which sets and intervals are cut after outcomes; None where these moved nothing."""
    if answer.request.aggregation not in answer.levels or not as_measured(answer):
        return None
    return 1.0 if answer.level is None else float(answer.level)


def _prediction_sets(answer: Answer, made: Served) -> list[list[Label]] | None:
    classes = answer.committed.schema.classes
    if classes is None or not as_measured(answer):
        return None
    sets = sets_of(_bundle(answer), answer.request.aggregation, made, answer.level)
    if sets is None:
        return None
    return [[classes[index] for index in np.flatnonzero(row)] for row in sets]


def _node_answers(
    answer: Answer, fused: Fused
) -> tuple[dict[str, Label | list[Label]] | None, list[IndividualPrediction] | None, list[str]]:
    """Per-node values: a number or label for one record, a list for a list."""
    schema, answered = answer.committed.schema, answer.tellers
    rows = len(answer.adapted.x)
    if rows * len(answered) > MAX_NODE_VALUES and answer.request.detail != "full":
        return (
            None,
            None,
            [
                f"{NODE_ANSWERS_LEFT_OUT}: {rows} records x {len(answered)} nodes; ask with detail 'full'"
            ],
        )
    by_slot: dict[str, list[Label]] = {}
    for k, slot in enumerate(answered):
        if fused.node_decisions is not None and schema.task == "multiclass" and schema.classes:
            by_slot[slot.name] = [schema.classes[index] for index in fused.node_decisions[k]]
        else:
            by_slot[slot.name] = [float(value) for value in fused.node_values[k]]
    if answer.adapted.is_list:
        return {slot.node_id: list(by_slot[slot.name]) for slot in answered}, None, []
    individual = [
        IndividualPrediction(
            node_id=slot.node_id,
            slot=slot.name,
            prediction=by_slot[slot.name][0],
            latency_ms=answer.latency_ms.get(slot.name),
        )
        for slot in answered
    ]
    return {slot.node_id: by_slot[slot.name][0] for slot in answered}, individual, []


def _warnings(
    answer: Answer, decisions: Sequence[str] | None, of_nodes: Sequence[str]
) -> list[str]:
    """Where nodes disagree first, then what is to be said of the cluster, the input, the nodes, the model."""
    quorum = answer.quorum
    split = split_votes(decisions, quorum) if quorum is not None and quorum.met else []
    return [*split, *answer.cautions, *answer.adapted.warnings, *of_nodes, *_remarks(answer)]


def _remarks(answer: Answer) -> list[str]:
    remarks = [*of_students(answer), *of_ensemble(answer), *of_confidence(answer)]
    if answer.request.aggregation == "majority" and answer.committed.schema.task == "regression":
        remarks.append("majority of values is their median")
    if len(answer.logits) > 1 and len({digest_of(answer, slot) for slot in answer.answered}) == 1:
        remarks.append(
            "all nodes serve the same weights: their agreement is no independent evidence"
        )
    return [*remarks, *_of_rule(answer), *model_warnings(answer.committed)]


def _of_rule(answer: Answer) -> list[str]:
    """Where decisions are not those that status reports of, or not the most probable class."""
    rule, own = answer.committed.bundle.rule, answer.request.threshold
    if own is not None and own != rule.threshold:
        of_status = f"status reports what is decided at {rule.threshold:g}"
        return [f"decided at this call's threshold {own:g}; {of_status}"]
    if rule.class_weight and answer.committed.schema.task == "multiclass":
        most = "so it need not be the most probable one"
        return [f"the class with the largest class_weight x probability is decided, {most}"]
    return []


def _input_report(adapted: Adapted) -> InputReport:
    return InputReport(
        mode=adapted.mode,
        rows=len(adapted.x),
        mapped=list(adapted.mapped),
        imputed=list(adapted.imputed),
        ignored=[IgnoredInput.model_validate(ignored) for ignored in adapted.ignored],
        coverage=float(adapted.coverage.mean()),
        ood=list(adapted.ood),
        clipped=adapted.clipped,
    )


def _rows(probabilities: Floats | None) -> list[list[float]] | None:
    if probabilities is None:
        return None
    return [[float(p) for p in row] for row in probabilities]


def _mean(confidence: Sequence[float | None]) -> float | None:
    known = [c for c in confidence if c is not None]
    return sum(known) / len(known) if known else None
