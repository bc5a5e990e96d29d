"""Gaussian noise from a key stream: with the key anybody can repeat it, without it nobody can."""

import math

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.privacy.keystream import keystream

_BITS = 53


def gaussian_noise(key: bytes, number: int, n: int) -> NDArray[np.float64]:
    """So many independent standard normal values.

    Args:
        key: 32 secret bytes.
        number: Which noise of the key; a number must never serve two sums, as their difference would be bare.
        n: How many.

    Returns:
        [n] float64. Values beyond 8.6 standard deviations do not occur.

    Source: Box and Muller, "A Note on the Generation of Random Normal Deviates", 1958, with uniform values
    of 53 bits. That floating-point Gaussians are not exactly Gaussian (Mironov, CCS 2012) is outside of the
    guarantee; see docs/privacy.md.
    """
    pairs = -(-n // 2)
    drawn = keystream(key, number, 16 * pairs).view("<u8") >> (64 - _BITS)
    uniform = drawn.astype(np.float64)
    radius = np.sqrt(
        -2 * np.log((uniform[:pairs] + 1) * 2.0**-_BITS)
    )  # in (0, 1]: the logarithm is finite
    angle = uniform[pairs:] * (2 * math.pi * 2.0**-_BITS)
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:n]
