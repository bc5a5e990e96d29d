"""The best predictor of the synthetic market: the exact forward filter of its hidden Markov model."""

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.synthetic import DEGREES, DRIFT, ECHO, SPREAD, STAY, Market


def regime_filter(returns: NDArray[np.float64], market: Market) -> NDArray[np.float64]:
    """P(next return > 0) of the true model, by the exact forward recursion (Hamilton 1989).

    Args:
        returns: [rows] returns; entry t of the result uses those up to and including t.
        market: Which symbol's parameters apply.

    Returns:
        [rows] probabilities.
    """
    step_to = np.where(np.eye(3) > 0, STAY, (1 - STAY) / 2)
    spread = market.spread_factor * SPREAD * np.sqrt((DEGREES - 2) / DEGREES)
    belief = np.full(3, 1 / 3)
    previous = 0.0
    result = np.empty(len(returns))
    for step, value in enumerate(returns):
        scaled = (value - DRIFT - ECHO * previous) / spread
        likelihood = (1 + scaled**2 / DEGREES) ** (-(DEGREES + 1) / 2) / spread
        belief = (belief @ step_to) * likelihood
        belief /= belief.sum()
        centre = (DRIFT + ECHO * value) / spread
        result[step] = float((belief @ step_to) @ _student5_cdf(centre))
        previous = value
    return result


def _student5_cdf(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distribution function of Student's t with 5 degrees of freedom, in closed form."""
    angle = np.arctan(value / np.sqrt(5.0))
    cosine, sine = np.cos(angle), np.sin(angle)
    area: NDArray[np.float64] = 0.5 + (angle + sine * (cosine + 2 / 3 * cosine**3)) / np.pi
    return area
