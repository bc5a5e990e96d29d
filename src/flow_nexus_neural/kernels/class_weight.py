"""Weights of classes in a training, and what they do to the probabilities that it learns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.probabilities import Float64s, Floats
from flow_nexus_neural.vocabulary import DEFAULT_THRESHOLD, THRESHOLD


def balanced_weights(counts: NDArray[np.integer[Any]]) -> tuple[float, ...]:
    """Weights with which every class counts the same in total: n / (k x rows of the class).

    Their mean over the rows is 1.

    Args:
        counts: [k] rows of each class, all > 0.

    Raises:
        ValueError: If a class has no row.

    Source: King and Zeng, "Logistic Regression in Rare Events Data", Political Analysis 2001, section 4.2,
    with every class given the share 1 / k.
    """
    if not counts.size or (counts <= 0).any():
        raise ValueError(f"classes with {counts.tolist()} rows cannot be balanced")
    weights = counts.sum() / (counts.size * counts.astype(np.float64))
    return tuple(float(weight) for weight in weights)


def without_class_weight(logits: Floats, class_weight: Sequence[float]) -> Float64s:
    """Logits of the data's own distribution, from those of a network trained with class weights.

    A training in which rows of class c count w_c times learns the distribution in which they occur w_c times:
    P'(c | x) is proportional to w_c P(c | x). Subtracting log w_c undoes that.

    Args:
        logits: [..., O]: O = 1 for two classes, else one per class.
        class_weight: One weight > 0 per class; empty if the classes counted alike.

    Source: King and Zeng 2001, section 4.1, prior correction; Elkan, IJCAI 2001, theorem 2.
    """
    x = np.asarray(logits, dtype=np.float64)
    if not class_weight:
        return x
    log_w = np.log(np.asarray(class_weight, dtype=np.float64))
    shifted: Float64s = x - (log_w[1:] - log_w[:1] if x.shape[-1] == 1 else log_w)
    return shifted


def threshold_of(class_weight: Sequence[float]) -> float:
    """Smallest P(class 1) at which class 1 is decided when errors on the two classes cost their weights.

    It is w_0 / (w_0 + w_1), kept within `vocabulary.THRESHOLD`; 0.5 for no weights.

    Source: Elkan, IJCAI 2001, equation 2.
    """
    if not class_weight:
        return DEFAULT_THRESHOLD
    zero, one = class_weight
    return min(max(zero / (zero + one), THRESHOLD.low), THRESHOLD.high)
