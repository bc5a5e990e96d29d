"""Sorting networks: sort each column of an array of few rows, by minima and maxima of whole rows."""

from collections.abc import Collection
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Comparator = tuple[int, int]


@lru_cache(maxsize=256)
def network(n: int, needed: frozenset[int]) -> tuple[Comparator, ...]:
    """Comparators (low, high) that move the values of the needed ranks, of n values, to their positions.

    Each comparator puts the smaller value at `low` and the larger at `high`. Comparators on which no needed
    rank depends are left out.

    Source: Batcher, "Sorting networks and their applications", AFIPS 1968, as Algorithm M (merge exchange) of
    Knuth, "The Art of Computer Programming" volume 3, section 5.2.2.
    """
    kept: list[Comparator] = []
    wanted = set(needed)
    for low, high in reversed(_merge_exchange(n)):
        if low in wanted or high in wanted:
            kept.append((low, high))
            wanted |= {low, high}
    return tuple(reversed(kept))


def sorted_rows(
    block: NDArray[np.float32], needed: Collection[int], spare: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Return rows of which number k holds the k-th smallest value of every column, for each needed k.

    Args:
        block: [n, columns] float32; its content is overwritten.
        needed: Required ranks, from 0; the content of the other rows is undefined.
        spare: [columns] float32 work array, overwritten.

    Returns:
        n views of `block` and `spare`.
    """
    rows = list(block)
    for low, high in network(len(rows), frozenset(needed)):
        # The work array and the row with the old low values change roles: no copy is needed.
        np.minimum(rows[low], rows[high], out=spare)
        np.maximum(rows[low], rows[high], out=rows[high])
        rows[low], spare = spare, rows[low]
    return rows


def _merge_exchange(n: int) -> list[Comparator]:
    pairs: list[Comparator] = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top if n > 1 else 0
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            q, r, d = q // 2, p, q - p
        p //= 2
    return pairs
