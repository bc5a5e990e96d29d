"""How probabilities become a class: one rule for a prediction, its evaluation and the vote of every node."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.probabilities import Float64s
from flow_nexus_neural.vocabulary import DEFAULT_THRESHOLD

TIE = 1e-12
"""Probabilities that differ by less than this count as equal."""


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """Which class is decided.

    Of two classes it is class 1, the positive one, if P(class 1) >= `threshold`. Of more it is the class with
    the largest probability times its weight.

    Attributes:
        threshold: Of two classes; within `vocabulary.THRESHOLD`.
        class_weight: By class index, what each class counted in the training; empty if all count alike.

    Source: Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001, equation 1: a class whose errors
    cost w times as much is decided where w times its probability is the largest.
    """

    threshold: float = DEFAULT_THRESHOLD
    class_weight: tuple[float, ...] = ()

    def decide(self, probabilities: Float64s) -> NDArray[np.int64]:
        """Class indices [...] from probabilities [..., C], the lowest index among equals of three or more.

        Probabilities that differ by less than `TIE` count as equal: pooling equal predictions rounds each
        class differently, and the pool must not decide otherwise than each of them.
        """
        if probabilities.shape[-1] == 2:
            return (probabilities[..., 1] >= self.threshold - TIE).astype(np.int64)
        scores = self.scores(probabilities)
        most = scores.max(axis=-1, keepdims=True)
        first: NDArray[np.int64] = (scores >= most - TIE).argmax(axis=-1).astype(np.int64)
        return first

    def scores(self, probabilities: Float64s) -> Float64s:
        """[..., C] what three or more classes are compared by: probabilities times weights of at most 1."""
        if not self.class_weight:
            return probabilities
        weights = np.asarray(self.class_weight, dtype=np.float64)
        scores: Float64s = probabilities * (weights / weights.max())
        return scores


MOST_PROBABLE = DecisionRule()
"""The class with the largest probability; class 1 if two are equal."""
