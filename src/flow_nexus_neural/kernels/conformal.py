"""Sets of classes and ranges of values that hold the truth with a given probability, whatever the model is.

Split conformal prediction: the scores of rows on which nothing was fitted say how far from the truth answers
are, and a new answer covers what lies no farther than most of them did. It holds for exchangeable rows. Where
rows change with time, the level is moved by what became of earlier answers.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from flow_nexus_neural.kernels.probabilities import Float64s, Floats

LEVEL = Fraction(9, 10)
KEPT = 64
"""Ranked scores that are kept of many, beside the one of `LEVEL`."""

Mask = NDArray[np.bool_]


def conformal_rank(n: int, level: Fraction = LEVEL) -> int | None:
    """The rank ceil((n + 1) level) among n scores, in exact integers; None if n is too small for the level.

    Raises:
        ValueError: The level is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1")
    rank = math.ceil((n + 1) * level)
    return rank if rank <= n else None


@dataclass(frozen=True, slots=True)
class ConformalScores:
    """What the scores of calibration rows were: enough of them to find the threshold of any level.

    Attributes:
        n: Rows that were scored.
        ranks: Ranks that are kept, from 1, rising; all of them for few rows.
        scores: The score of each of these ranks, rising; a small score is a good answer.
    """

    n: int
    ranks: tuple[int, ...]
    scores: tuple[float, ...]

    @classmethod
    def of(cls, scores: Floats) -> Self | None:
        """The scores of calibration rows, [n]; None without rows, or if one is not finite."""
        ranked = np.sort(np.asarray(scores, dtype=np.float64).reshape(-1))
        n = ranked.size
        if n == 0 or not np.isfinite(ranked).all():
            return None
        wanted = {max(1, -(-number * n // KEPT)) for number in range(1, KEPT + 1)}
        ranks = sorted(wanted | ({rank} if (rank := conformal_rank(n)) is not None else set()))
        return cls(n, tuple(ranks), tuple(float(ranked[rank - 1]) for rank in ranks))

    def to_json(self) -> dict[str, JsonValue]:
        """Convert to a JSON object."""
        return {"n": self.n, "ranks": list(self.ranks), "scores": list(self.scores)}

    def threshold(self, level: Fraction = LEVEL) -> float | None:
        """The score that the truth of a new row does not exceed with a probability of at least `level`.

        It is the k-th smallest score, k = ceil((n + 1) level); where that one is not kept, the next larger
        that is, so that no level is missed.

        Returns:
            None if there are too few rows for the level, for example below 9 at 0.9, or no kept score does.

        Raises:
            ValueError: The level is not in (0, 1).

        Source: Lei et al., "Distribution-Free Predictive Inference for Regression", JASA 2018, algorithm 2.
        """
        rank = conformal_rank(self.n, level)
        if rank is None:
            return None
        enough = (s for kept, s in zip(self.ranks, self.scores, strict=True) if kept >= rank)
        return next(enough, None)


def class_scores(probabilities: Float64s, labels: NDArray[np.int64]) -> Float64s:
    """[n] scores of rows whose class is known: minus the probability that it was given.

    Args:
        probabilities: [n, C].
        labels: [n] class indices.

    Source: Sadinle, Lei and Wasserman, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels",
    JASA 2019. Departure: the score is -p and not 1 - p, which rounds.
    """
    scores: Float64s = -probabilities[np.arange(labels.size), labels]
    return scores


def prediction_sets(
    probabilities: Float64s, threshold: float, decisions: NDArray[np.int64] | None = None
) -> Mask:
    """[R, C] which classes a set holds: those as probable as the threshold demands, and the decided one.

    A class whose probability equals the threshold is in. Where no class is probable enough the set would be
    empty, which is as good as no answer; with the decided class it holds one and covers no less often.

    Args:
        probabilities: [R, C].
        threshold: Of `class_scores`.
        decisions: [R] decided classes; below 0 where none is. None for the sets without them.
    """
    sets: Mask = -probabilities <= threshold
    if decisions is not None:
        sets |= np.arange(probabilities.shape[1]) == decisions[:, None]
    return sets


def share_covered(sets: Mask, labels: NDArray[np.int64]) -> float | None:
    """Share of rows whose class is in their set; None without rows."""
    if not labels.size:
        return None
    return float(sets[np.arange(labels.size), labels].mean())


@dataclass(frozen=True, slots=True)
class AdaptiveLevel:
    """The level of answers that follow each other in time, moved by whether earlier ones held.

    A miss widens what comes next by nine steps and a hit narrows it by one, so that nine of ten hold in the
    long run whatever the rows do: over T answers the share of misses differs from one in ten by at most
    (0.9 + gamma) / (gamma T), where no level is cut.

    Attributes:
        steps: The tolerated share of misses now, in units of gamma / 10 = 1 / 2000; an integer, so that
            it does not drift by rounding.
        answers: Whose outcome is known.
        covered: How many of them held.

    Source: Gibbs and Candes, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021, equation
    2, with gamma = 0.005. Departure: the share is kept within one step of [0, 1], where nothing is missed
    or everything: an answer that holds the decided class may hold although it should not.
    """

    steps: int = 200
    answers: int = 0
    covered: int = 0

    UNITS = 2000
    MISS, HIT = -9, 1

    @property
    def level(self) -> Fraction | None:
        """The level of the next answer; None where only everything would do."""
        if self.steps <= 0:
            return None
        return 1 - Fraction(min(self.steps, self.UNITS - 1), self.UNITS)


def after_outcome(state: AdaptiveLevel, *, covered: bool) -> AdaptiveLevel:
    """The state after the outcome of one more answer became known.

    Args:
        state: Before it.
        covered: Whether the answer's set or range held the outcome.
    """
    moved = state.steps + (state.HIT if covered else state.MISS)
    return replace(
        state,
        steps=min(max(moved, state.MISS), state.UNITS + state.HIT),
        answers=state.answers + 1,
        covered=state.covered + covered,
    )
