"""Updates as whole numbers modulo 2^32, and the masks that hide each of them and vanish in their sum."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.privacy.clipping import clip_factor, l2_norm
from flow_nexus_neural.kernels.privacy.keystream import keystream, keystream_blocks
from flow_nexus_neural.kernels.probabilities import Floats

SCALE = float(1 << 28)
"""Units per 1: a coordinate is rounded to 2^-28, 3.7e-9."""
RANGE = 7.5
"""Largest absolute value of a coordinate; the weighted sum of such stays below 2^31 / SCALE = 8."""

Words = NDArray[np.uint32]
_BLOCK = 1 << 14
"""Coordinates that are worked on at a time: as many as stay in a cache."""


def encode(update: Floats, weight: float, factor: float = 1.0) -> Words:
    """A weighted update in fixed point.

    Args:
        update: [d], finite.
        weight: In (0, 1]; the weights of all clients sum to 1 at most.
        factor: With which the update is shortened first, see `clip_factor_of`.

    Raises:
        ValueError: A shortened coordinate is outside of +-RANGE: the sum could wrap around.
    """
    # NaN is neither <= nor >= anything.
    inside = not update.size or bool(
        float(update.min()) * factor >= -RANGE and float(update.max()) * factor <= RANGE
    )
    if not 0 < weight <= 1 or not inside:
        raise ValueError(f"an update leaves the range of +-{RANGE:g} that fixed point has")
    words: Words = np.empty(update.size, np.uint32)
    signed, scratch = words.view(np.int32), np.empty(_BLOCK)
    for start in range(0, update.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        values = scratch[: signed[block].size]
        np.multiply(update[block], factor, out=values, dtype=np.float64)
        values *= weight * SCALE
        np.rint(values, out=values)
        signed[block] = values  # below 2^31, see RANGE
    return words


def clip_factor_of(update: Floats, clip_norm: float, weight: float) -> float:
    """What to shorten an update with, so that its words / (weight * SCALE) have at most this L2 norm.

    Args:
        update: [d], finite.
        clip_norm: > 0.
        weight: With which it will be encoded.

    Returns:
        A number in (0, 1]; rounding to fixed point is allowed for.

    Raises:
        ValueError: The norm is so small that rounding alone could exceed it.
    """
    limit = clip_norm - math.sqrt(update.size) / 2 / (weight * SCALE)
    if limit <= 0:
        raise ValueError(f"a clip norm of {clip_norm:g} is below the rounding of fixed point")
    return clip_factor(l2_norm(update), limit)


def decode(total: Words) -> NDArray[np.float64]:
    """The sum of encoded updates as numbers."""
    return total.view(np.int32).astype(np.float64) / SCALE


def mask(seed: bytes, n: int) -> Words:
    """[n] words that look random without the seed of 32 bytes: AES-256 in counter mode.

    Measured here with one thread, 3.7 GB/s into a buffer against 2.8 for ChaCha20 and 0.46 for numpy's
    Mersenne Twister.
    """
    return keystream(seed, 0, 4 * n).view("<u4")


def add_mask(total: Words, seed: bytes) -> None:
    """Add `mask(seed, total.size)`, in blocks: fresh memory for a whole mask costs more than the cipher."""
    for part, words in _with_mask(total, seed):
        np.add(part, words, out=part)


def subtract_mask(total: Words, seed: bytes) -> None:
    """Subtract it; see `add_mask`."""
    for part, words in _with_mask(total, seed):
        np.subtract(part, words, out=part)


def _with_mask(total: Words, seed: bytes) -> Iterator[tuple[Words, Words]]:
    start = 0
    for block in keystream_blocks(seed, 0, 4 * total.size):
        words = block.view("<u4")
        yield total[start : start + words.size], words
        start += words.size
