"""Noised sums of clients' updates: charged to the budget, durably, before anything of them exists."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy
from flow_nexus_neural.coordination.consensus.private_averaging import (
    NEXT_CLIP_NORM,
    PrivateAveraging,
)
from flow_nexus_neural.coordination.privacy.settings import PrivacySettings
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.charging import charge, secret_of
from flow_nexus_neural.engine.versions.aggregate import Aggregated, aggregate
from flow_nexus_neural.kernels.privacy.gaussian import gaussian_noise


@dataclass
class PrivateSums:
    """Combines the updates of one training with noise.

    The key of the noise is the training's secret (`charging.secret_of`). Every sum has noise of its own, also
    one of a round that is tried again: two sums with the same noise would tell their difference.
    """

    cluster: LiveCluster
    training: Training
    settings: PrivacySettings
    _key: bytes = field(init=False, repr=False)
    _sums: int = 0

    def __post_init__(self) -> None:
        self._key = secret_of(self.cluster)

    async def combine(
        self,
        network: NetworkGroup,
        updates: Sequence[Update],
        asked: Sequence[str],
        inner: AggregationPolicy,
    ) -> Aggregated:
        """The next state of a network group: clipped, summed, noised.

        Args:
            network: With the state from which the updates started.
            updates: In slot order.
            asked: All slots of the group that were asked for one.
            inner: What becomes of the mean.

        Raises:
            PrivacyBudgetSpent: It would exceed a limit; nothing was computed.
            StoreUnavailable: It could not be charged durably; nothing was computed.
        """
        if network.state is None:
            raise ValueError(f"network {network.key} has no state to start from")
        policy = await self.policy(network, asked, inner)
        made = await self.cluster.context.offload(aggregate, network.state, updates, policy)
        self.note_norm(network, made.evidence["privacy"])
        return made

    def clip_norm(self, network: NetworkGroup) -> float:
        """To which the updates of the next sum are clipped."""
        norms = self.training.advance.privacy.clip_norms
        return norms.get(network.key, self.settings.clip_norm)

    def note_norm(self, network: NetworkGroup, told: JsonValue) -> None:
        """Clip the next sum as a noised one says, where the norm is adapted."""
        if isinstance(told, dict) and isinstance(norm := told.get(NEXT_CLIP_NORM), float):
            spent = self.training.advance.privacy
            self.training.note_privacy(spent.with_clip_norm(network.key, norm))

    async def policy(
        self, network: NetworkGroup, asked: Sequence[str], inner: AggregationPolicy
    ) -> PrivateAveraging:
        """What makes one sum private, charged and with noise of its own; see `combine`."""
        await charge(self.cluster, self.training, dict.fromkeys(asked, 1))
        number = self._sums
        self._sums += 1
        offload = self.cluster.context.offload
        size = network.plan.n_params + 1
        return PrivateAveraging(
            inner=inner,
            clip_norm=self.clip_norm(network),
            noise_multiplier=self.settings.noise_multiplier,
            clients=len(asked),
            adaptive=self.settings.adaptive,
            noise=await offload(gaussian_noise, self._key, number, size),
        )
