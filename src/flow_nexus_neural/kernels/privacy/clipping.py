"""Clips what clients send to a known length, so that what one of them adds to a sum is bounded."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.probabilities import Floats

CLIP_RATE = 0.2
"""Step of the adaptive clipping norm, as in the paper's experiments."""
WITHIN = 0.5
"""Share of the clients whose updates the adaptive norm leaves as they are: the median of their lengths."""
_BLOCK = 1 << 14
"""Elements that are worked on at a time: as many as stay in a cache."""
LEAST_CLIP_NORM, MOST_CLIP_NORM = 1e-9, 1e9


def clip_factor(norm: float, clip_norm: float) -> float:
    """What an update of this L2 norm is multiplied by: min(1, clip_norm / norm), 1 for the zero update."""
    return 1.0 if norm <= clip_norm else clip_norm / norm


def clipped_sum(
    base: Floats, vectors: Sequence[Floats], clip_norm: float
) -> tuple[NDArray[np.float64], int]:
    """The sum of the clipped changes of clients, and how many of them were not shortened.

    Args:
        base: [d] float32, from which all of them started.
        vectors: n arrays of shape [d], float32, finite, in slot order. Not modified.
        clip_norm: Largest L2 norm of one change, > 0.

    Returns:
        [d] float64, of norm n * clip_norm at most, whatever the vectors are; and a number of clients.
        Cost: O(n d) time, two passes over each vector; memory for the sum and a few blocks.

    Raises:
        ValueError: There is no vector, or a shape differs.

    Source: McMahan, Ramage, Talwar, Zhang, "Learning Differentially Private Recurrent Language Models", ICLR
    2018, flat clipping in section 3.
    """
    if not vectors or any(vector.shape != base.shape for vector in vectors):
        raise ValueError("vectors to clip must be there, and have the shape of their base")
    norms = [_distance(vector, base) for vector in vectors]
    factors = [clip_factor(norm, clip_norm) for norm in norms]
    total, scratch = np.zeros(base.shape), np.empty(_BLOCK)
    for start in range(0, base.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        own, into = base[block].astype(np.float64), total[block]
        change = scratch[: own.size]
        for vector, factor in zip(vectors, factors, strict=True):
            np.subtract(vector[block], own, out=change)
            change *= factor
            into += change
    return total, sum(norm <= clip_norm for norm in norms)


def l2_norm(vector: Floats) -> float:
    """The L2 norm, in float64: squares of any float32 are finite there."""
    return _distance(vector, None)


def _distance(vector: Floats, base: Floats | None) -> float:
    """The L2 norm of a change, or of the vector itself."""
    squares, scratch = 0.0, np.empty(_BLOCK)
    for start in range(0, vector.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        change = scratch[: vector[block].size]
        change[:] = vector[block]
        if base is not None:
            change -= base[block]
        np.square(change, out=change)
        squares += float(change.sum())  # not @: its threads wait for each other
    return math.sqrt(squares)


def noise_of_sum(noise_multiplier: float, noise_of_count: float) -> float:
    """The noise multiplier of the sum, where a noised count of clients is published beside it.

    Both together cost what one sum with `noise_multiplier` costs. Each bit of the count is 1/2 or -1/2.

    Args:
        noise_multiplier: That of both together.
        noise_of_count: Standard deviation of the noise of the count; must be above noise_multiplier / 2.

    Source: Andrew, Thakkar, McMahan, Ramaswamy, "Differentially Private Learning with Adaptive Clipping",
    NeurIPS 2021, theorem 1.
    """
    left = noise_multiplier**-2 - (2 * noise_of_count) ** -2
    if left <= 0:
        raise ValueError("the count has too little noise")
    return float(left**-0.5)


def usual_noise_of_count(noise_multiplier: float, clients: int) -> float:
    """Standard deviation of the noise of the count of clients that were not shortened.

    The paper's choice is a twentieth of the clients of a round. Departure: never below the noise multiplier,
    since a small round would leave nothing to the sum; the sum then has at most 1.16 times the noise.
    """
    return max(clients / 20, noise_multiplier)


def next_clip_norm(clip_norm: float, share_within: float) -> float:
    """The clipping norm of the next round, geometric steps towards the median of the updates' norms.

    Args:
        clip_norm: Of this round.
        share_within: Noised share of the clients whose updates were not shortened; may lie outside [0, 1].

    Source: Andrew et al., NeurIPS 2021, section 2.1: C exp(-rate (share - quantile)). Departure: bounded, so
    that noise alone cannot drive it to 0 or infinity.
    """
    following = clip_norm * math.exp(-CLIP_RATE * (share_within - WITHIN))
    return min(max(following, LEAST_CLIP_NORM), MOST_CLIP_NORM)
