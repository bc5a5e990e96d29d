"""Weights of slots by what they lose on rows kept for that."""

from collections.abc import Sequence

import numpy as np

from flow_nexus_neural.kernels.probabilities import Float64s

LOSS_SHARPNESS = 10.0
WEIGHT_FLOOR = 0.05


def loss_weights(losses: Sequence[float | None]) -> Float64s:
    """Weights of slots by their loss on rows on which none of them was trained.

    w_k is proportional to exp(-10 (L_k - min L)). It is at least min(.05, 1 / (2 K))
    before the final normalisation. A slot without a loss gets an equal share 1 / K and the others divide the
    rest; a non-finite loss counts as infinite.

    Args:
        losses: K losses in slot order: log loss, or the mean squared error divided by the target's variance.

    Returns:
        [K] float64; empty for K = 0.
    """
    n = len(losses)
    if n == 0:
        return np.empty(0, dtype=np.float64)
    known = np.array([loss is not None for loss in losses])
    values = np.array([np.nan if loss is None else float(loss) for loss in losses])
    finite = np.isfinite(values)
    share = np.zeros(n)
    if finite.any():
        share[finite] = np.exp(-LOSS_SHARPNESS * (values[finite] - values[finite].min()))
        share *= known.sum() / n / share.sum()
    else:
        share[known] = 1.0 / n
    share[~known] = 1.0 / n
    share = np.maximum(share / share.sum(), min(WEIGHT_FLOOR, 1.0 / (2 * n)))
    weights: Float64s = share / share.sum()
    return weights
