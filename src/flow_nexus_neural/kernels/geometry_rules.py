"""Robust aggregation rules that compute one weight per vector from the inner products of the vectors.

Every function takes `gram`, the [n, n] float64 Gram matrix of the rows centred on their mean, and returns [n]
weights that sum to 1. Among equal scores the lowest index is chosen.
"""

from collections.abc import Callable
from itertools import combinations, islice
from math import comb

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.errors import InvalidRequest
from flow_nexus_neural.kernels.gram import squared_distances
from flow_nexus_neural.kernels.probabilities import Float64s

MAX_SUBSETS = 20_000
GM_STEPS = 100
GM_TOLERANCE = 1e-9
GM_FLOOR = 1e-6


def krum(gram: Float64s, f: int) -> Float64s:
    """Select the row with the smallest sum of squared distances to its n - f - 1 nearest other rows.

    Source: Blanchard et al., "Machine Learning with Adversaries", NeurIPS 2017, section 4. Departure: the
    paper sums n - f - 2 distances; one more is the convention of the ByzFL library.
    """
    return _uniform(gram.shape[0], _by_score(gram, f)[:1])


def multi_krum(gram: Float64s, f: int) -> Float64s:
    """Mean of the n - f rows with the lowest Krum scores."""
    n = gram.shape[0]
    return _uniform(n, _by_score(gram, f)[: n - f])


def geometric_median(gram: Float64s, _f: int = 0) -> Float64s:
    """The point with the smallest sum of distances to the rows, by Weiszfeld's iteration on weights.

    Stops when no weight changes by 1e-9, or after 100 steps. Distances are at least 1e-6 of the rows' spread.

    Source: Weiszfeld 1937; Pillutla et al., "Robust Aggregation for Federated Learning", IEEE TSP 2022,
    algorithm 2 (the smoothed iteration). Departure: the lower bound of distances is relative to the spread.
    """
    n = gram.shape[0]
    floor = GM_FLOOR * float(np.sqrt(max(np.trace(gram) / n, 0.0)))
    weights = np.full(n, 1.0 / n)
    if floor == 0.0:
        return weights
    for _ in range(GM_STEPS):
        reach = gram @ weights
        squares = gram.diagonal() - 2 * reach + weights @ reach
        inverse = 1.0 / np.maximum(np.sqrt(np.maximum(squares, 0.0)), floor)
        moved = inverse / inverse.sum()
        settled = bool(np.abs(moved - weights).max() < GM_TOLERANCE)
        weights = moved
        if settled:
            break
    return weights


def least_diameter(gram: Float64s, f: int) -> Float64s:
    """Mean of the n - f rows with the smallest diameter, their largest pairwise distance (MDA).

    Raises:
        InvalidRequest: If there are more than 20,000 such subsets.

    Source: Rousseeuw, "Multivariate estimation with high breakdown point", 1985, as minimum diameter
    averaging in El Mhamdi et al., "Collaborative Learning in the Jungle", NeurIPS 2021.
    """
    n = gram.shape[0]
    distances = squared_distances(gram)
    return _best_subset(n, f, lambda s: distances[s[:, :, None], s[:, None, :]].max(axis=(1, 2)))


def least_variance(gram: Float64s, f: int) -> Float64s:
    """Mean of the n - f rows whose covariance has the smallest top eigenvalue (SMEA), by exhaustive search.

    Raises:
        InvalidRequest: If there are more than 20,000 such subsets.

    Source: Allouah et al., "Robust Distributed Learning: Tight Error Bounds and Breakdown Point under Data
    Heterogeneity", NeurIPS 2023, definition of SMEA.
    """
    n = gram.shape[0]

    def top_eigenvalues(subsets: NDArray[np.int64]) -> Float64s:
        # A subset's centred Gram matrix has the nonzero eigenvalues of its covariance, up to 1 / (n - f).
        blocks = gram[subsets[:, :, None], subsets[:, None, :]]
        blocks = blocks - blocks.mean(axis=1, keepdims=True)
        blocks = blocks - blocks.mean(axis=2, keepdims=True)
        top: Float64s = np.linalg.eigvalsh(blocks)[:, -1]
        return top

    return _best_subset(n, f, top_eigenvalues)


def nearest_to(gram: Float64s, f: int, trusted: int) -> Float64s:
    """Mean of the n - f rows nearest to the row `trusted` (MoNNA).

    Source: Farhadkhani et al., "Robust Collaborative Learning with Linear Gradient Overhead", ICML 2023.
    """
    order = np.argsort(squared_distances(gram)[trusted], kind="stable")
    return _uniform(gram.shape[0], order[: gram.shape[0] - f])


def filtered(gram: Float64s, f: int) -> Float64s:
    """The covariance-bound agnostic filter (CAF): the weighted mean around which the rows vary least.

    Each step lowers the weights of rows in proportion to their squared distance along the direction of
    greatest variance, until the weights sum to n - 2 f or less. Returned are the weights of the step with the
    smallest value of that variance.
    In every step at least one row loses all its weight, so there are at most 2 f + 1 steps.

    Source: Allouah et al., "Towards Trustworthy Federated Learning with Untrusted Participants", ICML 2025,
    algorithm 2. Departures: an exact eigenvector instead of power steps from a random start, and the
    maximum is taken over rows that still have weight; over all rows the loop need not end.
    """
    n = gram.shape[0]
    active = np.ones(n)
    answer, least = np.full(n, 1.0 / n), np.inf
    while active.sum() > n - 2 * f:
        p = active / active.sum()
        centred = gram - (gram @ p)[None, :]
        centred = centred - (centred @ p)[:, None]
        root = np.sqrt(p)
        values, vectors = np.linalg.eigh(root[:, None] * centred * root[None, :])
        if values[-1] < least:
            least, answer = float(values[-1]), p
        spread = (centred @ (vectors[:, -1] * root)) ** 2
        largest = float(spread[active > 0].max())
        # The rows left are equal up to rounding: there is no direction to filter along.
        if largest <= 0 or values[-1] <= 1e-12 * max(values.sum(), 0.0):
            break
        active = active * np.maximum(0.0, 1.0 - spread / largest)
    return answer


def nearest_neighbour_mixing(gram: Float64s, f: int) -> Float64s:
    """[n, n] matrix that replaces each row by the mean of its n - f nearest rows, itself included (NNM).

    A geometric rule then gets the Gram matrix `W G W'`; its weights w become the weights `W' w` of the rows.

    Source: Allouah et al., "Fixing by Mixing: A Recipe for Optimal Byzantine ML under Heterogeneity",
    AISTATS 2023, algorithm 2.
    """
    n = gram.shape[0]
    order = np.argsort(squared_distances(gram), axis=1, kind="stable")[:, : n - f]
    mixing = np.zeros((n, n))
    np.put_along_axis(mixing, order, 1.0 / (n - f), axis=1)
    return mixing


def _by_score(gram: Float64s, f: int) -> NDArray[np.int64]:
    n = gram.shape[0]
    nearest = np.sort(squared_distances(gram), axis=1)[:, 1 : n - f]  # column 0 is the row itself
    order: NDArray[np.int64] = np.argsort(nearest.sum(axis=1), kind="stable")
    return order


def _uniform(n: int, chosen: NDArray[np.int64]) -> Float64s:
    weights = np.zeros(n)
    weights[chosen] = 1.0 / len(chosen)
    return weights


def _best_subset(n: int, f: int, scores: Callable[[NDArray[np.int64]], Float64s]) -> Float64s:
    """Uniform weights on the (n - f)-subset with the lowest score, the first one among equals."""
    if comb(n, f) > MAX_SUBSETS:
        raise InvalidRequest(
            f"this rule would compare {comb(n, f)} subsets of {n} updates, its limit is {MAX_SUBSETS}",
            hint="use the covariance filter or the geometric median",
        )
    subsets = combinations(range(n), n - f)
    best, least = np.arange(n - f), np.inf
    while chunk := list(islice(subsets, 1000)):
        candidates = np.array(chunk, dtype=np.int64)
        found = scores(candidates)
        if found.min() < least:
            least, best = float(found.min()), candidates[int(found.argmin())]
    return _uniform(n, best)
