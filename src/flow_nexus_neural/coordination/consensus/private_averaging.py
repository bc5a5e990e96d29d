"""DP-FedAvg: clipped updates are summed, noised once, and divided by the clients that were asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from flow_nexus_neural.coordination.consensus.federated_methods import PARAMS
from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy, Combined, Vectors
from flow_nexus_neural.kernels.privacy.clipping import (
    clipped_sum,
    next_clip_norm,
    noise_of_sum,
    usual_noise_of_count,
)

NEXT_CLIP_NORM = "next_clip_norm"


@dataclass(frozen=True)
class PrivateAveraging:
    """A policy that goes on from the noised mean of clipped updates.

    Only parameters are shared: every client starts each round with fresh optimiser moments, and networks with
    running statistics are refused before. What the inner method makes of the noised mean costs nothing more.

    Attributes:
        inner: What becomes of the mean, for example a step of FedAdam.
        clip_norm: Largest L2 norm of one client's change over all parameters.
        noise_multiplier: Standard deviation of the noise in clipping norms, of sum and count together.
        clients: Those that were asked; one that delivered nothing adds nothing.
        adaptive: Whether a noised count of the updates within the norm gives the next one.
        noise: Standard normal values: [d] float64 for the sum, and with `adaptive` one more for the count.

    Source: McMahan et al., ICLR 2018, algorithm 1 with the estimator of fixed denominator. Departures: every
    client counts 1, whatever its rows, and clients are not sampled at random, so nothing is gained by that.
    """

    inner: AggregationPolicy
    clip_norm: float
    noise_multiplier: float
    clients: int
    adaptive: bool
    noise: NDArray[np.float64] = field(repr=False)

    @property
    def name(self) -> str:
        """That of the inner method."""
        return self.inner.name

    @property
    def aliases(self) -> tuple[str, ...]:
        """None: it is chosen by `privacy`."""
        return ()

    def combine(self, base: Vectors, updates: Sequence[Vectors], _rows: Sequence[int]) -> Combined:
        """Clip, sum, add noise, divide; see `policy.AggregationPolicy`. Rows do not count."""
        vectors = [update[PARAMS] for update in updates]
        total, within = clipped_sum(base[PARAMS], vectors, self.clip_norm)
        return self.of_sum(base, total, within, len(updates))

    def of_sum(
        self, base: Vectors, total: NDArray[np.float64], within: int, delivered: int
    ) -> Combined:
        """The same from what `clipped_sum` gives.

        Args:
            base: As in `combine`.
            total: [d] float64, the sum of clipped changes. Modified.
            within: Updates that were not shortened.
            delivered: Updates in the sum.
        """
        start = base[PARAMS]
        multiplier, told = self.noise_multiplier, {}
        if self.adaptive:
            of_count = usual_noise_of_count(self.noise_multiplier, self.clients)
            multiplier = noise_of_sum(self.noise_multiplier, of_count)
            centred = within - delivered / 2 + of_count * float(self.noise[start.size])
            told = {NEXT_CLIP_NORM: next_clip_norm(self.clip_norm, centred / self.clients + 0.5)}
        return Combined(
            vectors=self._noised(base, total, multiplier),
            weights=(1 / self.clients,) * delivered,
            evidence={"privacy": self._evidence(multiplier, told)},
            keeps_moments=True,
        )

    def go_on_from(self, base: Vectors, total: NDArray[np.float64]) -> Combined:
        """The same from a sum that was clipped by the clients, each its own change; not `adaptive`.

        Args:
            base: As in `combine`.
            total: [d] float64, the sum of their clipped changes. Modified.

        Returns:
            Without weights: who is in the sum is known to the caller.
        """
        return Combined(
            vectors=self._noised(base, total, self.noise_multiplier),
            weights=None,
            evidence={"privacy": self._evidence(self.noise_multiplier, {})},
            keeps_moments=True,
        )

    def _noised(
        self, base: Vectors, total: NDArray[np.float64], multiplier: float
    ) -> dict[str, NDArray[np.float32]]:
        start = base[PARAMS]
        total += multiplier * self.clip_norm * self.noise[: start.size]
        mean = {PARAMS: (start + total / self.clients).astype(np.float32)}
        return {**self.inner.combine(base, [mean], [1]).vectors, "buffers": base["buffers"]}

    def _evidence(self, multiplier: float, told: Mapping[str, float]) -> dict[str, JsonValue]:
        """What may be known of the sum: nothing of it is measured without noise."""
        return {
            "clip_norm": self.clip_norm,
            "noise_std_of_mean": multiplier * self.clip_norm / self.clients,
            "clients": self.clients,
            **told,
        }
