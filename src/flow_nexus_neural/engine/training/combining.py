"""How the updates of an exchange become one state: by a rule alone, or with the help of trusted rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy
from flow_nexus_neural.coordination.consensus.robust_rule import BUCKETING, RobustRule
from flow_nexus_neural.coordination.consensus.trusted_update import TrustedUpdate
from flow_nexus_neural.coordination.consensus.validated_selection import (
    ValidatedSelection,
    select,
)
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.private_sums import PrivateSums
from flow_nexus_neural.engine.training.trusted_rows import TrustedRows
from flow_nexus_neural.engine.versions.aggregate import Aggregated, aggregate
from flow_nexus_neural.errors import NodeError, NoWorkers, RoundFailed, UpdateRejected
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.protocol.messages import Pass

DIGITS = 4
"""Decimals of losses and deviations in the evidence."""


@dataclass
class Combiner:
    """Combines updates by the policy of a course of rounds.

    Attributes:
        trusted: Rows for policies that need them; None where there are none.
        run: Root of every seed.
        local_epochs: Passes of a worker over its rows, and of a validator over the trusted ones.
        private: Clips and adds noise; None without privacy.
    """

    context: EngineContext
    policy: AggregationPolicy
    trusted: TrustedRows | None
    run: tuple[int, int]
    local_epochs: int
    private: PrivateSums | None = None
    _number: int = 0
    _exchanges: int = 0

    def begin_round(self, number: int) -> None:
        """Another try of a round: what is drawn and which rows are used follow from its number."""
        self._number, self._exchanges = number, 0

    async def combine(
        self, network: NetworkGroup, updates: Sequence[Update], asked: Sequence[str] = ()
    ) -> Aggregated:
        """The next state of a network group.

        Args:
            network: With the state from which the updates started.
            updates: In slot order.
            asked: All slots of the group that were asked for one; privacy divides by their number.

        Raises:
            PrivacyBudgetSpent: Another sum would exceed it.
            QuorumLost: There are too few updates for the policy's guarantee.
            RoundFailed: The policy left all of them out, or needs what no validator could give.
        """
        self._exchanges += 1
        policy = self.policy
        if self.private is not None:
            return await self.private.combine(network, updates, asked, policy)
        if isinstance(policy, ValidatedSelection):
            return await self._selected(policy, network, updates)
        if isinstance(policy, TrustedUpdate):
            policy = await self._trusting(policy, network)
        elif isinstance(policy, RobustRule) and BUCKETING in policy.in_front:
            seed = seed64(self.run, self._number, network.key, self._exchanges, "bucketing")
            policy = replace(policy, seed=seed)
        return await self._by(policy, network, updates)

    async def _by(
        self, policy: AggregationPolicy, network: NetworkGroup, updates: Sequence[Update]
    ) -> Aggregated:
        if network.state is None:
            raise ValueError(f"network {network.key} has no state to start from")
        return await self.context.offload(aggregate, network.state, updates, policy)

    async def _selected(
        self, policy: ValidatedSelection, network: NetworkGroup, updates: Sequence[Update]
    ) -> Aggregated:
        """The candidate that loses least on trusted rows, or what `auto` gives where nobody can tell."""
        if self.trusted is None or not self.trusted.enough:
            return _explained(await self._by(policy, network, updates), "too few trusted rows")
        candidates = policy.candidates(len(updates))
        bare = replace(network, state=_weights_of(network.state))
        weights = [replace(update, state=_weights_of(update.copied)) for update in updates]
        states = {
            name: (await self._by(candidate, bare, weights)).state
            for name, candidate in candidates.items()
        }
        try:
            losses = await self.trusted.losses(network, states, self._number)
        except NoWorkers as failure:
            return _explained(await self._by(policy, network, updates), failure.message)
        found = select(losses)
        told: dict[str, JsonValue] = {
            "chosen": found.chosen,
            "rows": len(losses[found.chosen]),
            "loss": {name: round(float(loss.mean()), DIGITS) for name, loss in losses.items()},
            "deviations": {name: _bounded(z) for name, z in found.z.items()},
        }
        chosen = await self._by(candidates[found.chosen], network, updates)
        return replace(chosen, evidence={**chosen.evidence, "selection": told})

    async def _trusting(self, policy: TrustedUpdate, network: NetworkGroup) -> TrustedUpdate:
        """The policy with a validator's update of this exchange. Raises `RoundFailed`."""
        if self.trusted is None or not self.trusted.enough:
            raise RoundFailed(
                f"{policy.name} has too few trusted rows for an update of their own",
                hint="choose aggregation_method auto, or a larger validation_size",
            )

        def passes(slot: str) -> tuple[Pass, ...]:
            seeds = (
                seed64(self.run, self._number, slot, k, "order") for k in range(self.local_epochs)
            )
            return tuple(Pass(order_seed=seed) for seed in seeds)

        dropout_seed = seed64(self.run, self._number, "", self._exchanges, "dropout")
        try:
            state = await self.trusted.update(network, passes, dropout_seed)
        except (NodeError, UpdateRejected) as failure:
            raise RoundFailed(
                f"{policy.name} got no update from a validator: {failure.message}",
                hint="see neural_cluster_status; a failed validator is replaced by neural_node_deploy",
            ) from failure
        return policy.trusting(state.arrays)


def _weights_of(state: ModelState | None) -> ModelState | None:
    """A state without moments: every array is combined on its own, and losses are of the weights alone."""
    return None if state is None else replace(state, moments={})


def _explained(made: Aggregated, why: str) -> Aggregated:
    """What a rule made without trusted rows, with the reason."""
    return replace(made, evidence={**made.evidence, "selection": {"off": why}})


def _bounded(z: float) -> float:
    """Standard errors as JSON can hold them."""
    return round(max(-1e6, min(1e6, z)), DIGITS)
