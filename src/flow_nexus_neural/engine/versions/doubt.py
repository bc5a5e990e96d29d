"""What validators read of decisions, and how far their word counts: for serving and for evaluation alike."""

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.engine.versions.served import Served
from flow_nexus_neural.kernels.decision_features import decision_features
from flow_nexus_neural.kernels.probabilities import Float64s, Floats, class_log_probabilities


def features_of(made: Served, student: Floats | None) -> NDArray[np.float32]:
    """[R, 10] of what a validator reads of decisions.

    Args:
        made: The decisions, of an aggregation with probabilities.
        student: [R, O] outputs of the distilled students; None without any.

    Raises:
        ValueError: The task is regression.
    """
    final = made.final
    if final.probabilities is None or final.decisions is None or final.node_probabilities is None:
        raise ValueError("values of a regression decide nothing")
    of_student = None if student is None else np.exp(class_log_probabilities(student))
    return decision_features(
        final.probabilities, final.decisions, final.node_probabilities, of_student
    )


def bounded(sure: Float64s, made: Served, *, robust: bool) -> Float64s:
    """[R] what validators say, as far as it counts.

    Where nodes may lie, one of them may say anything: it can then take confidence away and never add any.

    Args:
        sure: [R] P(the decision is right) by validators.
        made: The decisions, with the confidence that they have by themselves.
        robust: Whether nodes may lie.
    """
    own = made.certainty
    if not robust or own is None:
        return sure
    lower: Float64s = np.minimum(sure, own)
    return lower
