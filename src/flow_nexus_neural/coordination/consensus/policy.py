"""The interface of an aggregation policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

Vectors = Mapping[str, NDArray[np.float32]]
"""Arrays of a model state by name, for example `params`, `buffers`, `m`, `v`; each [d] float32."""


@dataclass(frozen=True)
class Combined:
    """The combined updates of one network group.

    Attributes:
        vectors: The new arrays, by the names of the updates' arrays.
        weights: Weight of each update, in the given order, with sum 1; None for a rule that works on each
            coordinate separately.
        excluded: Indices of updates that were left out, with the reason.
        evidence: Numbers that explain the result, for the ledger.
        by_update: More of them, under each name one per update, in the given order.
        keeps_moments: Whether the optimiser's moments, and the steps that they have seen, stay as they were.
    """

    vectors: dict[str, NDArray[np.float32]]
    weights: tuple[float, ...] | None
    excluded: Mapping[int, str] = field(default_factory=dict)
    evidence: Mapping[str, JsonValue] = field(default_factory=dict)
    by_update: Mapping[str, Sequence[JsonValue]] = field(default_factory=dict)
    keeps_moments: bool = False


class AggregationPolicy(Protocol):
    """Combines admitted updates: they have the right shape, are finite, and match their digest."""

    @property
    def name(self) -> str:
        """Its name in the ledger, in the configuration of a training and in `aggregation_method`."""
        ...

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names that `aggregation_method` accepts."""
        ...

    def combine(self, base: Vectors, updates: Sequence[Vectors], rows: Sequence[int]) -> Combined:
        """Combine the updates of one network group.

        Args:
            base: The state from which all updates started; it has at least the arrays of the updates.
            updates: n states, in slot order, all with the same names and shapes. Not modified.
            rows: n positive row counts from the engine's own records, never from a worker's claim.

        Raises:
            QuorumLost: If there are too few updates for the policy's guarantee.
            ValueError: If there is no update.
        """
        ...
