"""What all robust rules share: which arrays they combine, and what they tell of each update."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from typing_extensions import override

from flow_nexus_neural.coordination.consensus.policy import Combined, Vectors
from flow_nexus_neural.coordination.consensus.tolerance import (
    Voting,
    tolerated,
    too_few,
    usual_f,
)
from flow_nexus_neural.kernels.bucketing import bucket_means, buckets, n_buckets
from flow_nexus_neural.kernels.robust import Aggregate, adaptive_clipping

Float32s = NDArray[np.float32]
Changes = Sequence[Float32s]
LARGEST = np.finfo(np.float32).max
SECOND_MOMENT = "v"
ROUNDING = 1e-6
"""Distances below this share of a vector's length are those of float32."""
DECIDING = "params"
"""The array whose weights and distances are told; the others are combined by the same rule on their own."""
NEAREST_NEIGHBOUR_MIXING, ADAPTIVE_CLIPPING, BUCKETING = "nnm", "arc", "bucketing"
FRONTS = (NEAREST_NEIGHBOUR_MIXING, ADAPTIVE_CLIPPING, BUCKETING)


class Compute(Protocol):
    """A kernel: n changes [d], f, and whether each is first replaced by the mean of its nearest ones."""

    def __call__(self, changes: Changes, f: int, *, mix: bool) -> Aggregate:
        """Aggregate the changes."""
        ...


@dataclass(frozen=True)
class RobustRule(Voting):
    """A rule that tolerates f arbitrary updates of n, if n is large enough.

    Each array is combined on its own: weights computed from the parameters would let anything pass in the
    optimiser's moments. Changes against the base are combined; of second moments the values themselves, since
    they span many orders of magnitude. Row counts are not used: each update has one vote.

    Attributes:
        compute: The kernel.
        per_f: With `plus`, the condition n >= per_f * f + plus.
        in_front: `arc`, `bucketing` and `nnm`, in the order in which they are applied.
        limit: A further limit: why f of n is too much; None if it is not.
        seed: Of what is drawn in a round: the buckets.
    """

    name: str
    aliases: tuple[str, ...]
    compute: Compute
    per_f: int = 2
    plus: int = 1
    in_front: tuple[str, ...] = ()
    limit: Callable[[int, int], str | None] | None = None
    seed: int = 0

    def combine(self, base: Vectors, updates: Sequence[Vectors], _rows: Sequence[int]) -> Combined:
        """Combine each array; see `policy.AggregationPolicy`. O(n d) memory for an array."""
        if not updates:
            raise ValueError("there is no update to combine")
        f = tolerated(self, self.tolerance, len(updates))
        return robustly_combined(partial(self._aggregate, f=f), base, updates, self.name, f)

    @override
    def refusal(self, n: int, f: int) -> str | None:
        """See `tolerance.RobustPolicy`."""
        few = self._too_few(n, f)
        return few if few or self.limit is None else self.limit(self._n_combined(n), f)

    @override
    def usual_f(self, n: int) -> int:
        """See `tolerance.RobustPolicy`."""
        return max(0, min(usual_f(n), (self._n_combined(n) - self.plus) // self.per_f))

    def behind(self, front: str) -> Self:
        """The same rule with mixing, clipping or bucketing before it."""
        return replace(
            self, name=f"{front}+{self.name}", aliases=(), in_front=(front, *self.in_front)
        )

    def _aggregate(self, changes: Changes, f: int) -> Aggregate:
        if ADAPTIVE_CLIPPING in self.in_front:
            factors = adaptive_clipping(changes, f).astype(np.float32)
            changes = [c * k for c, k in zip(changes, factors, strict=True)]
        mix = NEAREST_NEIGHBOUR_MIXING in self.in_front
        if BUCKETING not in self.in_front:
            return self.compute(changes, f, mix=mix)
        members = buckets(len(changes), self.seed)
        return _of_buckets(self.compute(bucket_means(changes, members), f, mix=mix), members)

    def _n_combined(self, n: int) -> int:
        """How many vectors the kernel gets for n updates."""
        return n_buckets(n) if BUCKETING in self.in_front else n

    def _too_few(self, n: int, f: int) -> str | None:
        combined = self._n_combined(n)
        few = too_few(combined, f, per_f=self.per_f, plus=self.plus)
        if few is None or combined == n:
            return few
        return f"{n} updates are {combined} buckets, each of which one lying worker spoils: {few}"


def _of_buckets(made: Aggregate, members: Sequence[Sequence[int]]) -> Aggregate:
    """What a kernel said of buckets, said of their members."""
    n = sum(map(len, members))
    weights = None if made.weights is None else np.zeros(n)
    if weights is not None and made.weights is not None:
        for bucket, weight in zip(members, made.weights, strict=True):
            weights[[*bucket]] = weight / len(bucket)
    left_out = tuple(sorted(k for bucket in made.left_out for k in members[bucket]))
    return Aggregate(made.vector, weights, (), (), left_out)


def robustly_combined(
    aggregate: Callable[[Changes], Aggregate],
    base: Vectors,
    updates: Sequence[Vectors],
    rule: str,
    f: int,
) -> Combined:
    """Apply a kernel to each array of the updates, and tell what it made of each update.

    An update without weight in the parameters is excluded. `distance` of an update is that of its change of
    the parameters from the combined one, in medians of all n: honest updates are near 1, whatever the rule.
    """
    vectors: dict[str, Float32s] = {}
    shortened: set[int] = set()
    weights: tuple[float, ...] | None = None
    left_out: Sequence[int] = ()
    distances: list[JsonValue] = []
    for name in updates[0]:
        start = np.zeros_like(base[name]) if name == SECOND_MOMENT else base[name]
        if not start.size:
            vectors[name] = start.copy()
            continue
        changes = [difference(update[name], start) for update in updates]
        made = aggregate(changes)
        vectors[name] = finite_sum(start, made.vector)
        shortened |= set(made.shortened)
        if name == DECIDING:
            distances = relative_distances(changes, made.vector)
            left_out = made.left_out
            if made.weights is not None:
                weights = tuple(float(weight) for weight in made.weights)
                left_out = [k for k, weight in enumerate(weights) if weight == 0]
    return Combined(
        vectors,
        weights,
        excluded=dict.fromkeys(left_out, f"{rule} gave its update no weight (f = {f})"),
        evidence={"rule": rule, "f": f, "shortened": [*sorted(shortened)]},
        by_update={"distance": distances}
        | ({} if weights is None else {"weight": [round(weight, 4) for weight in weights]}),
    )


def difference(value: Float32s, start: Float32s) -> Float32s:
    """The difference, clipped to float32: the guard would drop an infinite one and lose it for the quorum."""
    with np.errstate(over="ignore"):
        clipped: Float32s = np.clip(value - start, -LARGEST, LARGEST)
    return clipped


def finite_sum(start: Float32s, change: Float32s) -> Float32s:
    """The sum, clipped to float32."""
    with np.errstate(over="ignore"):
        total: Float32s = np.clip(start + change, -LARGEST, LARGEST)
    return total


def relative_distances(changes: Changes, combined: Float32s) -> list[JsonValue]:
    """[n] Euclidean distances from the combined change, divided by their median; 0 if all are rounding."""
    centre = combined.astype(np.float64)
    found = [float(np.linalg.norm(change.astype(np.float64) - centre)) for change in changes]
    middle = float(np.median(found))
    if middle <= ROUNDING * float(np.linalg.norm(centre)):
        return [0.0 for _ in found]
    return [round(one / middle, 3) for one in found]
