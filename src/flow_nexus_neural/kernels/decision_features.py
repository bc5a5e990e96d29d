"""What a validator reads of a decision: how sure it is, how far apart the models are, what a student says."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.probabilities import Float64s, logit

N_FEATURES: Final = 10


def decision_features(
    probabilities: Float64s,
    decisions: NDArray[np.int64],
    node_probabilities: Float64s,
    student: Float64s | None,
) -> NDArray[np.float32]:
    """[R, 10] float32 of each record's decision, whatever the number of classes and of models.

    Of the decided class: the logit of its fused probability, its margin over the most probable other class,
    mean, standard deviation, lowest and highest of the models' probabilities, the share of models for which
    it is the most probable; then the student's probability, its distance from the fused one, and whether a
    student answered.

    Args:
        probabilities: [R, C] combined and calibrated.
        decisions: [R] decided class.
        node_probabilities: [K, R, C] of each model.
        student: [R, C] of the distilled student; None without one.
    """
    rows = np.arange(len(decisions))
    own = probabilities[rows, decisions]
    others = probabilities.copy()
    others[rows, decisions] = -1.0
    of_nodes = node_probabilities[:, rows, decisions]  # [K, R]
    agree = (node_probabilities.argmax(axis=2) == decisions).mean(axis=0)
    told = np.zeros_like(own) if student is None else student[rows, decisions]
    gap = np.zeros_like(own) if student is None else np.abs(told - own)
    there = np.full_like(own, student is not None)
    features = np.stack(
        [
            logit(own),
            own - others.max(axis=1),
            of_nodes.mean(axis=0),
            of_nodes.std(axis=0),
            of_nodes.min(axis=0),
            of_nodes.max(axis=0),
            agree,
            told,
            gap,
            there,
        ],
        axis=1,
    )
    return features.astype(np.float32)
