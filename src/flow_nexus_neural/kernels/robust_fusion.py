"""Combines the answers of K slots of which f may be arbitrary: order statistics instead of plain means."""

import numpy as np

from flow_nexus_neural.errors import QuorumLost
from flow_nexus_neural.kernels.probabilities import Float64s

UNDECIDED = -1
"""In place of a class index: too few slots voted for any class."""


def require_quorum(n_answers: int, f: int) -> None:
    """Refuse so few answers that f arbitrary ones could decide. Raises `QuorumLost`."""
    if n_answers <= 2 * f:
        raise QuorumLost(
            f"{n_answers} answers cannot outvote {f} lying ones",
            hint=f"{2 * f + 1} are needed; see neural_cluster_status for the nodes that do not answer",
            details={"answers": n_answers, "f": f},
        )


def trimmed_mean(answers: Float64s, f: int) -> Float64s:
    """Mean over slots, [K, ...] to [...], without the f lowest and the f highest answers of each element.

    With at most f arbitrary answers it lies between the smallest and the largest of the others, and it is
    exactly their value where they are all equal, since offsets from the lowest kept answer are averaged.

    Args:
        answers: [K, ...] finite.
        f: Answers to leave out on each side, K > 2 f.

    Source: Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018, definition 2, on answers instead
    of gradients.
    """
    kept = np.sort(answers, axis=0)[f : answers.shape[0] - f]
    lowest = kept[0]
    mean: Float64s = lowest + (kept - lowest).mean(axis=0)
    # Rounding must not carry the mean over the largest kept answer.
    bounded: Float64s = np.minimum(mean, kept[-1])
    return bounded


def clipped_to_trimmed_range(answers: Float64s, f: int) -> Float64s:
    """Answers [K, ...] moved into the range that is left without the f lowest and f highest ones.

    With at most f arbitrary answers, both ends of that range lie within the range of the others.
    """
    ordered = np.sort(answers, axis=0)
    clipped: Float64s = np.clip(answers, ordered[f], ordered[answers.shape[0] - f - 1])
    return clipped


def capped_weights(weights: Float64s, f: int) -> Float64s:
    """Shares of weights, [K] or [K, R], none above 1 / (2 f + 1) before they are made to sum to 1 again.

    No cap can help where nearly all weight is on one slot; `clipped_to_trimmed_range` bounds what that slot
    can say.
    """
    shares = np.minimum(weights / weights.sum(axis=0), 1.0 / (2 * f + 1))
    capped: Float64s = shares / shares.sum(axis=0)
    return capped
