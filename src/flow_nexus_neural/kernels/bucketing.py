"""Bucketing: means of a few vectors at random, which vary less than the vectors themselves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.gram import Float32s

SIZE = 2
"""Vectors in a bucket, as the source recommends."""


def n_buckets(n: int) -> int:
    """Buckets of n vectors; one liar spoils at most one of them."""
    return -(-n // SIZE)


def buckets(n: int, seed: int) -> list[list[int]]:
    """Indices 0 to n - 1 in a seeded order, cut into runs of two; the last one may have a single index."""
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(n).tolist()
    return [sorted(order[start : start + SIZE]) for start in range(0, n, SIZE)]


def bucket_means(
    vectors: Sequence[NDArray[Any]], members: Sequence[Sequence[int]]
) -> list[Float32s]:
    """The mean of each bucket, [d] float32 each.

    Source: Karimireddy et al., "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", ICLR
    2022, algorithm 1. Values are divided before they are added, so that two of the largest do not overflow.
    """
    means = []
    for bucket in members:
        share = np.float32(1.0 / len(bucket))
        total = np.zeros(vectors[0].shape, dtype=np.float32)
        for k in bucket:
            total += vectors[k] * share
        means.append(total)
    return means
