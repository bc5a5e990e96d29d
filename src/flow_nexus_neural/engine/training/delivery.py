"""Which way the updates of a round take to become a state: summed over links, or copied by the engine.

Only a mean can be summed on the way. Every other rule needs the single updates at one trusted place, which is
the engine.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.federated_methods import FedProx
from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy
from flow_nexus_neural.coordination.topology import ENGINE, MESH_LIMIT
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import ExchangeReport
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.collectives import Averaged
from flow_nexus_neural.engine.training.combining import Combiner
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.versions.aggregate import Aggregated, aggregate
from flow_nexus_neural.errors import RoundFailed, UpdateRejected

AUDIT_RELATIVE, AUDIT_ABSOLUTE = 1e-5, 1e-6
"""How far the sum over links may be from the engine's own: partial sums travel as float32."""


@dataclass(frozen=True)
class Delivery:
    """The way of the updates of one training.

    Attributes:
        combiner: Makes a state of what the engine copied.
        audited: The engine copies every update although links sum them, and holds the sum against its own:
            where updates are proven, what is averaged has to be what was proven.
    """

    cluster: LiveCluster
    exchange: Exchange
    combiner: Combiner
    left_out: LeftOut
    audited: bool

    @property
    def policy(self) -> AggregationPolicy:
        """By which updates are combined."""
        return self.combiner.policy

    def detour(self, network: NetworkGroup) -> str | None:
        """Why updates of a group go through the engine; None where links carry them."""
        if self.combiner.private is not None:
            return "privacy clips each update and adds noise at one place, which is the engine"
        if not isinstance(self.policy, FederatedAveraging | FedProx):
            return f"{self.policy.name} needs every single update at one place, which is the engine"
        runtime = self.cluster.context.runtime
        if not runtime.capabilities.peer_views:
            return f"nodes of the runtime {runtime.name} cannot read each other's memory"
        return self._apart(network)

    def _apart(self, network: NetworkGroup) -> str | None:
        """Why the workers of a group are not linked to each other; None if they are."""
        links = self.cluster.state.links
        if links is None:
            return "the nodes are not connected"
        workers = self.exchange.able(network, self.left_out)
        if self.exchange.links.plane(network, workers) is None:
            if len(workers) > MESH_LIMIT and links.topology == "mesh":
                return f"a mesh links at most {MESH_LIMIT} workers"
            if links.topology == "star":
                return "without a parameter server the hub of a star is the engine"
            return f"{network.key} has fewer than two workers that can take part"
        return None

    async def combine(
        self, network: NetworkGroup, updates: Sequence[Update], excluded: Collection[str]
    ) -> Aggregated:
        """The next state of a group from the updates of a round.

        Args:
            network: With the state from which they started.
            updates: In slot order.
            excluded: Slots that the round has left out; they take no part in an exchange either.

        Raises:
            QuorumLost: Too few updates for the policy's guarantee.
            RoundFailed: No update is left.
        """
        detour, names = self.detour(network), [update.slot for update in updates]
        refused: dict[str, str] = {}
        while detour is None and updates:
            workers = self.exchange.able(network, self.left_out, {*excluded, *refused})
            averaged = await self.exchange.links.average(network, updates, workers)
            if averaged is None:
                detour = "nobody was left to exchange with"
                break
            for name, why in averaged.lost.items():
                if name != ENGINE:
                    self.left_out.add(self.cluster.slots[name], why)
            inside = [update for update in updates if update.slot in averaged.contributors]
            refused |= {u.slot: self._gone(u, averaged) for u in updates if u not in inside}
            flaw = averaged.state.flaw or await self._audited(network, inside, averaged.state)
            if flaw is None:
                self.cluster.metrics.note_exchange(averaged.report)
                total = sum(update.rows for update in inside)
                weights = {update.slot: update.rows / total for update in inside}
                return Aggregated(averaged.state, weights, refused, {})
            _, bad = await self._inspected(network, inside)
            refused |= bad
            updates = [update for update in inside if update.slot not in bad]
            if not bad:
                detour = f"what came over the links {flaw}, and no single update is wrong"
        asked = [*names, *(name for name in excluded if name in network.slots)]
        return await self._in_engine(network, updates, refused, (str(detour), asked))

    def _gone(self, update: Update, averaged: Averaged) -> str:
        """Why an update that a worker delivered is not part of the average."""
        slot = self.cluster.slots[update.slot]
        why = averaged.lost.get(update.slot) or slot.last_error or slot.state
        return f"not part of the exchange: {why}"

    async def _in_engine(
        self,
        network: NetworkGroup,
        updates: Sequence[Update],
        refused: dict[str, str],
        why: tuple[str, Sequence[str]],
    ) -> Aggregated:
        """Copy what has not been copied yet, and apply the policy here.

        Args:
            network: With the state from which they started.
            updates: In slot order.
            refused: Those that are not among them any more.
            why: They go through the engine; and all slots that were asked.
        """
        detour, asked = why
        copied, bad = await self._inspected(network, updates)
        refused |= bad
        if not copied:
            reasons = "; ".join(f"{slot}: {why}" for slot, why in refused.items())
            raise RoundFailed(f"no update was left ({reasons})", hint="see neural_cluster_status")
        made = await self.combiner.combine(network, copied, asked)
        self.cluster.metrics.note_exchange(self._through_engine(network, copied, made, detour))
        return replace(made, excluded={**refused, **made.excluded})

    async def _inspected(
        self, network: NetworkGroup, updates: Sequence[Update]
    ) -> tuple[list[Update], dict[str, str]]:
        """Updates with the engine's copies, and why it refuses the others when it looks at each of them."""
        copied: list[Update] = []
        bad: dict[str, str] = {}
        for update in updates:
            try:
                copied.append(await self.exchange.copied(network, update))
            except UpdateRejected as rejection:
                bad[update.slot] = rejection.message
                self.left_out.add(self.cluster.slots[update.slot], rejection.message)
        return copied, bad

    async def _audited(
        self, network: NetworkGroup, updates: Sequence[Update], state: ModelState
    ) -> str | None:
        """What is wrong with a sum over links, where the engine has copies of all of its terms."""
        if not self.audited or network.state is None:
            return None
        offload = self.cluster.context.offload
        own = (await offload(aggregate, network.state, updates, self.policy)).state
        near = await offload(_near, state, own)
        return None if near else "is not the average of the updates"

    def _through_engine(
        self, network: NetworkGroup, updates: Sequence[Update], made: Aggregated, detour: str
    ) -> ExchangeReport:
        nbytes = sum(array.nbytes for array in updates[0].copied.arrays.values())
        contributors = len(updates) - len(made.excluded)
        sent = Counter(update.slot for update in updates)
        return self.through_engine(network, detour, nbytes, sent, contributors)

    def through_engine(
        self,
        network: NetworkGroup,
        detour: str,
        nbytes: int,
        sent: Mapping[str, int],
        contributors: int,
    ) -> ExchangeReport:
        """What went through the engine in a round, for this reason: so many states of each worker."""
        links = self.cluster.state.links
        return ExchangeReport(
            network=network.key,
            path="engine",
            reason=detour,
            topology=links.topology if links else None,
            members=len(sent) + 1,
            contributors=contributors,
            steps=1,
            state_bytes=nbytes,
            bytes=nbytes * sum(sent.values()),
            busiest_bytes=nbytes * max(sent.values(), default=0),
            ms=None,  # workers are copied one by one as they end
        )


def _near(one: ModelState, other: ModelState) -> bool:
    return all(
        np.allclose(one.arrays[name], array, rtol=AUDIT_RELATIVE, atol=AUDIT_ABSOLUTE)
        for name, array in other.arrays.items()
    )
