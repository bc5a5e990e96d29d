"""Gaussian noise from a key stream: with the key anybody can repeat it, without it nobody can."""

import math

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.privacy.keystream import keystream

_BITS = 53
_SPARE = np.uint64(64 - _BITS)
_BLOCK = 1 << 13
"""Pairs that are worked on at a time: as many as stay in a cache."""


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
    drawn = keystream(key, number, 16 * pairs).view("<u8")
    noise = np.empty(2 * pairs)
    for start in range(0, pairs, _BLOCK):
        first = slice(start, min(start + _BLOCK, pairs))
        second = slice(pairs + first.start, pairs + first.stop)
        # In (0, 1]: the logarithm is finite.
        radius = ((drawn[first] >> _SPARE).astype(np.float64) + 1) * 2.0**-_BITS
        np.log(radius, out=radius)
        radius *= -2
        np.sqrt(radius, out=radius)
        angle = (drawn[second] >> _SPARE).astype(np.float64) * (2 * math.pi * 2.0**-_BITS)
        np.multiply(radius, np.cos(angle), out=noise[first])
        np.multiply(radius, np.sin(angle), out=noise[second])
    return noise[:n]
