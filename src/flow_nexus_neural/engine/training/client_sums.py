"""The sum of clients' updates, of which only one wave is in memory at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.combining import Combiner
from flow_nexus_neural.engine.training.private_sums import PrivateSums
from flow_nexus_neural.engine.versions.aggregate import Aggregated, aggregate, with_params
from flow_nexus_neural.errors import InternalError
from flow_nexus_neural.kernels.averaging import RunningAverage, rounded_mean
from flow_nexus_neural.kernels.privacy.clipping import clipped_sum


class ClientSum(Protocol):
    """Takes the updates of a round's clients, in their order, and makes the next state of them."""

    async def add(self, update: Update) -> None:
        """Count one in; it is not kept."""
        ...

    async def combined(self) -> Aggregated:
        """The next state, of one update or more. Raises as `Combiner.combine`."""
        ...


def sum_of_clients(
    combiner: Combiner, network: NetworkGroup, asked: Sequence[str]
) -> "MeanOfClients | PrivateSumOfClients":
    """How updates of clients are combined in a training.

    Args:
        combiner: Of the training, whose policy goes on from a mean.
        network: With the state from which the clients start.
        asked: All clients of the round; privacy divides by their number.
    """
    if network.state is None:
        raise InternalError(f"network {network.key} has no state to start from")
    if combiner.private is None:
        return MeanOfClients(combiner, network.state)
    return PrivateSumOfClients(combiner, combiner.private, network, network.state, asked)


@dataclass
class MeanOfClients:
    """The mean of all arrays, each client weighted by its rows; bit for bit that of all updates at once."""

    combiner: Combiner
    base: ModelState
    _means: dict[str, RunningAverage] = field(default_factory=dict)
    _steps: int = 0
    _rows: int = 0

    async def add(self, update: Update) -> None:
        """See `ClientSum`."""
        await self.combiner.context.offload(self._add, update)

    def _add(self, update: Update) -> None:
        for name, array in update.copied.arrays.items():
            self._means.setdefault(name, RunningAverage()).add(array, update.rows)
        self._steps += update.opt_step * update.rows
        self._rows += update.rows

    async def combined(self) -> Aggregated:
        """See `ClientSum`."""
        return await self.combiner.context.offload(self._combined)

    def _combined(self) -> Aggregated:
        arrays = {name: mean.average() for name, mean in self._means.items()}
        moments = {name: arrays[name] for name in self.base.moments}
        step = rounded_mean(self._steps, self._rows)
        mean = Update(
            slot="clients",
            state=ModelState(arrays["params"], arrays["buffers"], moments, step),
            digest="",
            rows=self._rows,
            steps=step,
            opt_step=step,
            loss=None,
            cpu_s=0.0,
        )
        made = aggregate(self.base, [mean], self.combiner.policy)
        return replace(made, weights=None)


@dataclass
class PrivateSumOfClients:
    """The clipped changes of all clients, with noise, divided by the number of those that were asked."""

    combiner: Combiner
    private: PrivateSums
    network: NetworkGroup
    base: ModelState
    asked: Sequence[str]
    _total: NDArray[np.float64] | None = None
    _within: int = 0
    _delivered: int = 0

    def __post_init__(self) -> None:
        self._norm = self.private.clip_norm(self.network)

    async def add(self, update: Update) -> None:
        """See `ClientSum`."""
        vectors = [update.copied.params]
        offload = self.combiner.context.offload
        total, within = await offload(clipped_sum, self.base.params, vectors, self._norm)
        self._total = total if self._total is None else self._total + total
        self._within += within
        self._delivered += 1

    async def combined(self) -> Aggregated:
        """See `ClientSum`. Raises also as `PrivateSums.combine`."""
        if self._total is None:
            raise InternalError("there is nothing to add noise to")
        policy = await self.private.policy(self.network, self.asked, self.combiner.policy)
        kept = self.base.server.vectors if self.base.server is not None else {}
        made = await self.combiner.context.offload(
            policy.of_sum, {**self.base.arrays, **kept}, self._total, self._within, self._delivered
        )
        self.private.note_norm(self.network, made.evidence["privacy"])
        state = with_params(self.base, policy.name, made.vectors)
        return Aggregated(state=state, weights=None, excluded={}, evidence=made.evidence)
