"""How sure a version's answers are, and whether that is so: confidence, prediction sets and intervals.

Sets and intervals are fitted on rows kept for that, and everything is measured on test rows. What is scored
is the combination before calibration: calibrators are fitted on the same rows, so that only of that
combination calibration rows and new ones are exchangeable.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.state.version import Bundle
from flow_nexus_neural.engine.versions.served import Served
from flow_nexus_neural.kernels.conformal import (
    LEVEL,
    ConformalScores,
    class_scores,
    prediction_sets,
    share_covered,
)
from flow_nexus_neural.kernels.metrics import CALIBRATION_BINS, Reliability, reliability
from flow_nexus_neural.vocabulary import Aggregation


def conformal_scores(
    schema: DataSchema, made: Mapping[Aggregation, Served], rows: Rows
) -> dict[str, ConformalScores]:
    """How far from the truth each aggregation's answers to rows were; none where these are too few.

    Args:
        schema: Of the data.
        made: The answers to the rows, by aggregation.
        rows: On which none of the networks was trained and no weight was fitted.
    """
    found: dict[str, ConformalScores] = {}
    for mode, served in made.items():
        scores = ConformalScores.of(_scores(schema, served, rows))
        if scores is not None and scores.threshold() is not None:
            found[mode] = scores
    return found


def sets_of(
    bundle: Bundle, aggregation: Aggregation, made: Served, level: Fraction | None = LEVEL
) -> NDArray[np.bool_] | None:
    """[R, C] classes that hold the right one with a probability of `level`; None where it is not known how.

    All of them where no smaller set is sure enough: for a level of None, or with too few rows for the level.
    Votes are no probabilities: the set of a majority is that of the mean, and the class that was voted for.
    """
    p = made.chances.raw.probabilities
    if p is None or aggregation not in bundle.conformal:
        return None
    threshold = _threshold(bundle, aggregation, level)
    if threshold is None:  # only all of them are sure enough
        return np.ones(p.shape, dtype=np.bool_)
    return prediction_sets(p, threshold, made.final.decisions)


def half_width(
    bundle: Bundle, aggregation: Aggregation, level: Fraction | None = LEVEL
) -> float | None:
    """How far to both sides of a value the interval of that level reaches, in the target's unit.

    None where it is not known how far, or no finite interval is sure enough.
    """
    return _threshold(bundle, aggregation, level)


ECE_DEFINITION = (
    "mean over bins of equal width of |mean confidence - share decided right|, weighted by rows"
)


def covers(
    bundle: Bundle,
    schema: DataSchema,
    aggregation: Aggregation,
    made: Served,
    outcome: tuple[float, Fraction | None],
) -> bool:
    """Whether the answer to one record holds its outcome, at a level; one that holds everything does.

    Args:
        bundle: Whose answer it is, with scores for the aggregation.
        schema: Of the data.
        aggregation: How it was combined.
        made: The answer.
        outcome: Class index or standardised value, and the level.
    """
    value, level = outcome
    if schema.task == "regression":
        half = half_width(bundle, aggregation, level)
        units = value * schema.target_sd + schema.target_mean
        return half is None or abs(float(made.final.values[0]) - units) <= half
    sets = sets_of(bundle, aggregation, made, level)
    return sets is None or bool(sets[0, int(value)])


@dataclass(frozen=True)
class Sureness:
    """What answers to test rows claimed of themselves, and what of that was so.

    Attributes:
        confidence: Calibration of P(the decision is right); None for regression, or without rows.
        coverage: Share of rows whose target was in its set or interval; None where there are none.
        size: Classes of a set, or width of an interval in the target's unit, on the mean.
        scored_rows: Rows that sets and intervals rest on; 0 where there are none.
    """

    confidence: Reliability | None
    coverage: float | None = None
    size: float | None = None
    scored_rows: int = 0

    @property
    def of_report(self) -> dict[str, object]:
        """All of it, under the names of the evaluation's report."""
        claims, confidence, conformal = self.confidence, None, None
        if claims is not None:
            confidence = {**asdict(claims), "bins": CALIBRATION_BINS, "definition": ECE_DEFINITION}
        if self.coverage is not None:
            conformal = {
                "level": float(LEVEL),
                "coverage": self.coverage,
                "mean_size": self.size,
                "calibration_rows": self.scored_rows,
            }
        return {"confidence": confidence, "conformal": conformal}

    def in_short(self, mode: Aggregation) -> dict[str, float | None]:
        """What the line of one aggregation has of it; a majority is as sure as the mean of its decision."""
        line = {"coverage": self.coverage, "size": self.size}
        if mode != "majority" or self.confidence is None:
            return line
        return {"ece": self.confidence.ece, **line}


def sureness(
    bundle: Bundle, schema: DataSchema, aggregation: Aggregation, made: Served, rows: Rows
) -> Sureness:
    """Measure what an aggregation's answers to test rows claimed."""
    scores = bundle.conformal.get(aggregation)
    n = 0 if scores is None else scores.n
    if schema.task == "regression":
        half = half_width(bundle, aggregation)
        if half is None or not len(rows):
            return Sureness(None)
        held = np.abs(made.final.values - in_units(schema, rows)) <= half
        return Sureness(None, float(held.mean()), 2 * half, n)
    labels, decisions = rows.y.astype(np.int64), made.final.decisions
    certainty = made.certainty
    if certainty is None or decisions is None:
        raise ValueError("a classification has decisions")
    reliable = reliability(certainty, decisions == labels)
    sets = sets_of(bundle, aggregation, made)
    if sets is None or not len(rows):
        return Sureness(reliable)
    size = float(sets.sum(axis=1).mean())
    return Sureness(reliable, share_covered(sets, labels), size, n)


def in_units(schema: DataSchema, rows: Rows) -> NDArray[np.float64]:
    """[n] targets of a regression in their own unit."""
    values: NDArray[np.float64] = rows.y.astype(np.float64) * schema.target_sd + schema.target_mean
    return values


def _scores(schema: DataSchema, made: Served, rows: Rows) -> NDArray[np.float64]:
    if schema.task == "regression":
        return np.abs(made.raw.values - in_units(schema, rows))
    p = made.chances.raw.probabilities
    if p is None:
        raise ValueError("a classification has probabilities")
    return class_scores(p, rows.y.astype(np.int64))


def _threshold(bundle: Bundle, aggregation: Aggregation, level: Fraction | None) -> float | None:
    scores = bundle.conformal.get(aggregation)
    return None if scores is None or level is None else scores.threshold(level)
