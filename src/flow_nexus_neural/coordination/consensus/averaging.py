"""Federated averaging: the mean of all updates, each weighted by its rows."""

from collections.abc import Sequence

from flow_nexus_neural.coordination.consensus.policy import Combined, Vectors
from flow_nexus_neural.kernels.averaging import federated_average


class FederatedAveraging:
    """The row-weighted mean of weights, running statistics and optimiser moments.

    It tolerates no faulty update: one update can move the mean anywhere. The mean of equal updates is equal
    to them, bit for bit.

    Source: McMahan et al., AISTATS 2017, Algorithm 1. Departure: the optimiser's moments are averaged too.
    """

    name = "federated_averaging"
    aliases = ("fedavg",)

    def combine(self, _base: Vectors, updates: Sequence[Vectors], rows: Sequence[int]) -> Combined:
        """Average each array; see `policy.AggregationPolicy`."""
        if not updates:
            raise ValueError("there is no update to average")
        total = sum(rows)
        return Combined(
            vectors={
                name: federated_average([update[name] for update in updates], rows)
                for name in updates[0]
            },
            weights=tuple(count / total for count in rows),
        )
