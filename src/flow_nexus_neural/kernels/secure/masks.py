"""Updates as whole numbers modulo 2^32, and the masks that hide each of them and vanish in their sum."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.privacy.clipping import clip_factor, l2_norm
from flow_nexus_neural.kernels.privacy.keystream import ROOM_BYTES, KeyStream, keystream
from flow_nexus_neural.kernels.probabilities import Floats

SCALE = float(1 << 28)
"""Units per 1: a coordinate is rounded to 2^-28, 3.7e-9."""
RANGE = 7.5
"""Largest absolute value of a coordinate; the weighted sum of such stays below 2^31 / SCALE = 8."""

Words = NDArray[np.uint32]
BLOCK = 1 << 14
"""Coordinates that are worked on at a time: as many as stay in a cache."""

ReadWords = Callable[[int, Words], None]
"""Fills an array with words of a masked update, from one of them on."""


class Masks:
    """Masks that are put on or taken off together, block by block from the first word on.

    A block stays in the cache until the last of them is on it: one pass over the vector for all of them.

    Args:
        n: Words of each mask.
        added: Seeds of those that are added, 32 bytes each; see `mask`.
        subtracted: Of those that are subtracted.
    """

    def __init__(self, n: int, added: Iterable[bytes], subtracted: Iterable[bytes] = ()) -> None:
        self._added = [KeyStream(seed, 0, 4 * n) for seed in added]
        self._subtracted = [KeyStream(seed, 0, 4 * n) for seed in subtracted]
        self._room = np.empty(4 * BLOCK + ROOM_BYTES, np.uint8)

    def apply_to(self, words: Words) -> None:
        """Change the next words, at most `BLOCK` of them, in place."""
        for stream in self._added:
            words += stream.next_into(self._room, words.nbytes).view("<u4")
        for stream in self._subtracted:
            words -= stream.next_into(self._room, words.nbytes).view("<u4")


def encode(update: Floats, weight: float, factor: float = 1.0) -> Words:
    """A weighted update in fixed point.

    Args:
        update: [d], finite.
        weight: In (0, 1]; the weights of all clients sum to 1 at most.
        factor: With which the update is shortened first, see `clip_factor_of`.

    Raises:
        ValueError: A shortened coordinate is outside of +-RANGE: the sum could wrap around.
    """
    _check_range(update, weight, factor)
    words: Words = np.empty(update.size, np.uint32)
    for block, part in _encoded(update, weight, factor):
        words[block] = part
    return words


def write_masked(into: Words, update: Floats, weight: float, factor: float, masks: Masks) -> None:
    """Encode an update and put its masks on, in one pass.

    Nothing is written to `into`, which others may read, that has not all masks on it.

    Args:
        into: [d], overwritten.
        update: As in `encode`.
        weight: As there.
        factor: As there.
        masks: Of d words.

    Raises:
        ValueError: As `encode`; nothing was written.
    """
    _check_range(update, weight, factor)
    for block, part in _encoded(update, weight, factor):
        masks.apply_to(part)
        into[block] = part


def sum_without(n: int, sources: Sequence[ReadWords], masks: Masks) -> Words:
    """The sum of masked updates after the masks that are left in it, in one pass.

    Args:
        n: Words of each.
        sources: Each is read once, in order.
        masks: Added or subtracted so that the masks in the sum vanish.
    """
    total: Words = np.zeros(n, np.uint32)
    one: Words = np.empty(BLOCK, np.uint32)
    for start in range(0, n, BLOCK):
        into = total[start : start + BLOCK]
        for read in sources:
            read(start, one[: into.size])
            into += one[: into.size]
        masks.apply_to(into)
    return total


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
    return np.multiply(total.view(np.int32), 1 / SCALE)  # a power of two: nothing is rounded


def mask(seed: bytes, n: int) -> Words:
    """[n] words that look random without the seed of 32 bytes: AES-256 in counter mode.

    Measured here with one thread, 3.7 GB/s into a buffer against 2.8 for ChaCha20 and 0.46 for numpy's
    Mersenne Twister.
    """
    return keystream(seed, 0, 4 * n).view("<u4")


def _check_range(update: Floats, weight: float, factor: float) -> None:
    # NaN is neither <= nor >= anything.
    inside = not update.size or bool(
        float(update.min()) * factor >= -RANGE and float(update.max()) * factor <= RANGE
    )
    if not 0 < weight <= 1 or not inside:
        raise ValueError(f"an update leaves the range of +-{RANGE:g} that fixed point has")


def _encoded(update: Floats, weight: float, factor: float) -> Iterator[tuple[slice, Words]]:
    """Blocks of an update in fixed point: where each belongs, and one buffer again and again."""
    words: Words = np.empty(BLOCK, np.uint32)
    scratch = np.empty(BLOCK)
    for start in range(0, update.size, BLOCK):
        block = slice(start, min(start + BLOCK, update.size))
        size = block.stop - start
        values = scratch[:size]
        np.multiply(update[block], factor, out=values, dtype=np.float64)
        values *= weight * SCALE
        np.rint(values, out=values)
        part = words[:size]
        part.view(np.int32)[:] = values  # below 2^31, see RANGE
        yield block, part
