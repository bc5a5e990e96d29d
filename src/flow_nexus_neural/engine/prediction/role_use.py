"""Which role's network had a say in a reply, and why not where it had none."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from flow_nexus_neural.engine.prediction.answer import Answer
from flow_nexus_neural.engine.reports.prediction import CombinedBy, ConfidenceSource
from flow_nexus_neural.engine.state.roles import ROLE_OF, Purpose
from flow_nexus_neural.engine.state.version import Bundle
from flow_nexus_neural.engine.versions.served import Served, target_scale
from flow_nexus_neural.kernels.ensemble import fuse

T = TypeVar("T")


def combined_by(answer: Answer) -> CombinedBy | None:
    """What combined the answers of an `ensemble`; None for another aggregation."""
    if answer.request.aggregation != "ensemble":
        return None
    return "fallback" if answer.stacked is None else "net"


def served_by_students(answer: Answer, bundle: Bundle) -> Served:
    """What the students answer by themselves: the mean of their logits, not calibrated."""
    schema = answer.committed.schema
    outputs = np.stack(list(answer.students.values()))
    equal, scale = [1.0] * len(outputs), target_scale(schema, bundle.residual_median)
    raw = fuse("weighted", outputs, equal, schema.task, scale=scale, rule=bundle.rule)
    return Served(raw, raw)


def of_students(answer: Answer) -> list[str]:
    """What is said where students answer for the serving nodes."""
    if not answer.by_student:
        return []
    got, n = len(answer.logits), len(answer.slots)
    gate = answer.committed.bundle.roles.gates["student"]
    told = f"{got} of {n} serving nodes answered, so the distilled student of the parameter servers does"
    return [f"{told}: {gate.own:.4g} against {gate.rival:.4g} of its teacher on {gate.rows} rows"]


def source_of(answer: Answer, confidence: Sequence[float | None]) -> ConfidenceSource:
    """Who says how sure a reply is."""
    if all(one is None for one in confidence):
        return "none"
    return "margin" if answer.sure is None else "validator"


def without_stacker(bundle: Bundle) -> Bundle:
    """The bundle for an `ensemble` that goes without its stacking networks: it is `weighted` then.

    What was fitted on the outputs of stacking networks says nothing of that.
    """
    if not bundle.roles.uses("stacker"):
        return bundle
    return replace(
        bundle,
        calibrators=_as_weighted(dict(bundle.calibrators)),
        conformal=_as_weighted(dict(bundle.conformal)),
    )


def _as_weighted(by_mode: dict[str, T]) -> dict[str, T]:
    by_mode.pop("ensemble", None)
    return by_mode | ({"ensemble": by_mode["weighted"]} if "weighted" in by_mode else {})


def of_ensemble(answer: Answer) -> list[str]:
    """Why an `ensemble` is a weighted mean, with both numbers, or which networks it lacks."""
    combined = combined_by(answer)
    if combined == "net":
        lacking = [*_some(answer, "stacker"), *_some(answer, "student")]
        return [f"{which}: nothing was measured of ensemble without them" for which in lacking]
    if combined is None:
        return []
    bundle = answer.committed.bundle
    source = answer.weighting.source
    weighting = "equal weights" if source == "equal" else f"weights from {source}"
    outputs = "values" if answer.committed.schema.task == "regression" else "logits"
    told = f"a mean of {outputs} with {weighting}"
    gate = bundle.roles.gates.get("stacker")
    if gate is None:
        return [f"ensemble without a trained aggregator: {told}"]
    if gate.used:
        whose = _excluded(answer, "stacker")
        return [f"no aggregator answered ({whose}): ensemble is {told}"]
    numbers = ""
    if gate.own is not None and gate.rival is not None:
        numbers = f", loss {gate.own:.4g} against {gate.rival:.4g} on {gate.rows} rows"
    return [f"ensemble goes without the aggregators ({gate.reason}{numbers}): {told}"]


def of_confidence(answer: Answer) -> list[str]:
    """What is said where validators were asked how sure the decisions are, and not all answered."""
    if answer.sure is not None:
        lacking = _some(answer, "confidence")
        return [f"{which}: confidence was measured with all of them" for which in lacking]
    if not answer.missing("confidence"):
        return []
    whose = _excluded(answer, "confidence")
    return [f"no validator answered ({whose}): confidence is that of the probabilities themselves"]


def _excluded(answer: Answer, purpose: Purpose) -> str:
    """Who of a role did not answer, and why; four of them at most."""
    told = [f"{slot}: {why}" for slot, why in answer.missing(purpose).items()]
    return "; ".join(told[:4]) or "none was asked"


def _some(answer: Answer, purpose: Purpose) -> list[str]:
    """How many of a role answered, where some did not."""
    n, missing = len(answer.committed.bundle.roles.for_purpose(purpose)), answer.missing(purpose)
    if not missing:
        return []
    nodes = f"{ROLE_OF[purpose]} nodes".replace("_", " ")
    return [f"{n - len(missing)} of {n} {nodes} answered ({_excluded(answer, purpose)})"]
