"""The loss of each row, where a comparison of two models needs more than their means."""

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.probabilities import Float64s, Floats, class_log_probabilities
from flow_nexus_neural.vocabulary import Task

LARGEST = 1e3
"""In nats, or in variances of the target: losses of a model that is useless are all alike, and finite."""


def row_losses(logits: Floats, y: NDArray[np.generic], task: Task) -> Float64s:
    """[R] log loss in nats, or the squared error of standardised values; at most 1000, also if not finite.

    Args:
        logits: [R, O] outputs of a network.
        y: [R] class indices, or standardised targets.
        task: What the outputs mean.
    """
    outputs = np.asarray(logits, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        if task == "regression":
            found = (outputs[:, 0] - np.asarray(y, dtype=np.float64)) ** 2
        else:
            labels = np.asarray(y).astype(np.int64)
            found = -class_log_probabilities(outputs)[np.arange(len(labels)), labels]
    losses: Float64s = np.minimum(np.nan_to_num(found, nan=LARGEST, posinf=LARGEST), LARGEST)
    return losses
