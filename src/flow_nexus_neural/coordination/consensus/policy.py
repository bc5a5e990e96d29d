"""What an aggregation policy is."""

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
    """What a policy made of the updates of one network group.

    Attributes:
        vectors: The new arrays, under the names of the updates.
        weights: Weight of each update in them, in the order given, summing to 1; None where a rule looks at
            each coordinate by itself and so gives an update no single weight.
        excluded: Positions of updates that were left out, with the reason.
        evidence: Numbers behind the decision, for the ledger.
    """

    vectors: dict[str, NDArray[np.float32]]
    weights: tuple[float, ...] | None
    excluded: Mapping[int, str] = field(default_factory=dict)
    evidence: Mapping[str, JsonValue] = field(default_factory=dict)


class AggregationPolicy(Protocol):
    """Combines admitted updates: of the right shape, finite, with the digest that came with them."""

    @property
    def name(self) -> str:
        """As the ledger, the configuration of a training and `aggregation_method` call it."""
        ...

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other spellings that `aggregation_method` may have."""
        ...

    def combine(self, base: Vectors, updates: Sequence[Vectors], rows: Sequence[int]) -> Combined:
        """Combine the updates of one network group.

        Args:
            base: The state from which every update started; it has at least the arrays of the updates.
            updates: n states, in slot order, all with the same names and shapes. Not modified.
            rows: n positive row counts, known to the engine and never claimed by a worker.

        Raises:
            QuorumLost: Too few updates for what the policy promises.
            ValueError: There is no update.
        """
        ...
