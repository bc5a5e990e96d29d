"""Weighted sums of model states, part by part: what averaging in one place and over links have in common.

A state is a sequence of flat arrays, read as one long vector: element i of the second array has the number
len(first) + i.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 14
"""Elements per block: the two float64 work arrays, 256 KiB together, stay in the second-level cache."""

FLOAT_BYTES = 4
"""Of a float32, which every element of a state is."""

State = Sequence[NDArray[Any]]
"""Flat float32 arrays, [d1], [d2], ..."""


def length_of(state: State) -> int:
    """Elements of a state."""
    return sum(array.size for array in state)


def fold(
    into: State,
    sources: Sequence[tuple[State, float]],
    divisor: float,
    part: tuple[int, int],
    between_blocks: Callable[[], None] = lambda: None,
) -> None:
    """Write sum(weight * source) / divisor into one part of a state.

    The sum is kept in float64, in the order of the sources, and rounded once to float32. So equal sources
    whose integer weights sum to the divisor give themselves back, bit for bit, while the divisor is below
    2**29: 24 bits of a float32 times such an integer fit into the 53 bits of a float64.

    Args:
        into: The state to write; may be among the sources, since every element is read before it is written.
        sources: States like `into`, each with its weight.
        divisor: What the sum is divided by.
        part: First element and the one after the last, of the long vector.
        between_blocks: Called between two blocks of `BLOCK` elements; may raise.

    Raises:
        ValueError: If states differ in shape, the part is not in them, or there is no source.
    """
    lengths = [array.size for array in into]
    if any([array.size for array in source] != lengths for source, _ in sources) or not sources:
        raise ValueError(f"{len(sources)} sources do not fit a state of arrays of {lengths}")
    start, stop = part
    if not 0 <= start <= stop <= sum(lengths):
        raise ValueError(f"elements {start} to {stop} are not in a state of {sum(lengths)}")
    accumulator = np.empty(BLOCK, np.float64)
    term = np.empty_like(accumulator)
    for k, first, last in _blocks(lengths, start, stop):
        size = last - first
        partial, scaled = accumulator[:size], term[:size]
        partial[:] = 0.0
        for source, weight in sources:
            scaled[:] = source[k][first:last]
            scaled *= weight
            partial += scaled
        partial /= divisor
        into[k][first:last] = partial
        between_blocks()


def _blocks(lengths: Sequence[int], start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Blocks of a part: the number of an array, and where the block begins and ends in it."""
    for k, (size, end) in enumerate(zip(lengths, accumulate(lengths), strict=True)):
        begin = end - size
        inside = range(max(start, begin) - begin, min(stop, end) - begin, BLOCK)
        for first in inside:
            yield k, first, min(first + BLOCK, inside.stop)
