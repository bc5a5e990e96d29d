"""Secure aggregation: the engine gets masked updates and their sum, and no single update.

The phases of `protocol.messages.masking`, one after the other, among the workers that have trained. Each may
lose workers; from the third on those that are left take off what the lost ones have left in the sum. The
engine carries public keys and sealed shares between them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import anyio
import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy
from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.coordination.secure_sum import (
    LEAST_CLIENTS,
    least_delivered,
    threshold_of,
)
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.patience import Deadline
from flow_nexus_neural.engine.reports import ExchangeReport
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.exchange import TRAINING, Exchange
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.private_sums import PrivateSums
from flow_nexus_neural.engine.versions.aggregate import Aggregated, stepped, with_params
from flow_nexus_neural.errors import NeuralError, RoundFailed
from flow_nexus_neural.kernels.secure import shamir
from flow_nexus_neural.kernels.secure.agreement import agreed_key, public_key
from flow_nexus_neural.kernels.secure.masks import Words, decode, mask
from flow_nexus_neural.kernels.secure.purposes import commitment_to, masking
from flow_nexus_neural.protocol.contract import AnsweredBy, R
from flow_nexus_neural.protocol.messages import (
    AskMasked,
    AskMaskKeys,
    AskMaskShares,
    AskUnmasking,
    MaskPeer,
    MaskShares,
)

PHASE = Deadline(30.0, 60.0)
"""For each phase; the third is a pass over the update for every pair."""
Answers = dict[str, tuple[R, dict[str, NDArray[np.generic]]]]


@dataclass
class SecureSum:
    """The way of the updates of a training with secure aggregation.

    Attributes:
        policy: What becomes of the mean.
        private: Adds noise to the sum, of updates that the workers have clipped; None without privacy.
    """

    cluster: LiveCluster
    exchange: Exchange
    policy: AggregationPolicy
    left_out: LeftOut
    private: PrivateSums | None = None
    audited: bool = field(default=False, init=False)

    def detour(self, _network: NetworkGroup) -> str | None:
        """None: no update is copied by the engine."""
        return None

    async def combine(
        self, network: NetworkGroup, updates: Sequence[Update], excluded: Collection[str]
    ) -> Aggregated:
        """The next state of a group, from masked updates.

        Args:
            network: With the state from which they started.
            updates: Of workers that have trained and kept what they made, in slot order.
            excluded: Slots that were asked and have not.

        Raises:
            RoundFailed: Fewer than three or than the threshold delivered.
            PrivacyBudgetSpent: As `PrivateSums.policy`; no masked update was asked for.
        """
        base = network.state
        if base is None:
            raise ValueError(f"network {network.key} has no state to start from")
        began_s, lost = self.cluster.clock(), dict[str, str]()
        ask = _Phases(self, f"sum-{self.cluster.context.ports.random_bits(64):016x}", lost)
        asked = [u.slot for u in updates] + [s for s in excluded if s in network.slots]
        # Under privacy each client counts once, whatever its rows, and those that are missing count nothing.
        rows = {update.slot: 1 if self.private else update.rows for update in updates}
        peers = await ask.keys(list(rows))
        threshold = threshold_of(len(peers))
        sealed = await ask.shares(peers, threshold)
        whole = len(asked) if self.private else sum(rows[slot] for slot in sealed)
        weights = {slot: rows[slot] / whole for slot in sealed}
        clip = self.private.settings.clip_norm if self.private else None
        # Charged before anything of the sum exists: a server that ends in between has not spent unnoticed.
        noised = await self.private.policy(network, asked, self.policy) if self.private else None
        masked = await ask.masked(sealed, weights, threshold, clip)
        shares = await ask.unmasking(list(masked), threshold)
        total = await self.cluster.context.offload(
            unmasked, Joined(ask.session, threshold, peers, sealed), masked, shares
        )
        share = sum(weights[slot] for slot in masked)
        told: dict[str, JsonValue] = {"delivered": len(masked), "threshold": threshold}
        evidence: dict[str, JsonValue] = {"secure": told}
        if noised is None:
            mean = (base.params + decode(total) / share).astype(np.float32)
            state = await self.cluster.context.offload(stepped, base, self.policy, mean)
        else:
            kept = base.server.vectors if base.server is not None else {}
            made = noised.go_on_from({**base.arrays, **kept}, decode(total) * len(asked))
            state = with_params(base, self.policy.name, made.vectors)
            share, evidence = 1.0, {**evidence, **made.evidence}
        self.cluster.metrics.note_exchange(self._report(network, masked, began_s))
        return Aggregated(
            state,
            weights={slot: weights[slot] / share for slot in masked},
            excluded=lost,
            evidence=evidence,
        )

    def _report(
        self, network: NetworkGroup, masked: Mapping[str, Words], began_s: float
    ) -> ExchangeReport:
        links, nbytes = self.cluster.state.links, 4 * network.plan.n_params
        return ExchangeReport(
            network=network.key,
            path="engine",
            reason="secure aggregation: the engine sums masked updates",
            topology=links.topology if links else None,
            members=len(masked) + 1,
            contributors=len(masked),
            steps=4,
            state_bytes=nbytes,
            bytes=nbytes * len(masked),
            busiest_bytes=nbytes,
            ms=1000 * (self.cluster.clock() - began_s),
        )


@dataclass
class _Phases:
    """The phases of one sum; each gives up those that fail in it."""

    of: SecureSum
    session: str
    lost: dict[str, str]

    async def keys(self, slots: Sequence[str]) -> list[MaskPeer]:
        """Public keys of those that take part."""
        found = await self._ask(
            slots, lambda slot: AskMaskKeys(session=self.session, slot=slot), LEAST_CLIENTS
        )
        return [
            MaskPeer(slot=slot, masking=reply.masking, sealing=reply.sealing)
            for slot, (reply, _) in found.items()
        ]

    async def shares(self, peers: Sequence[MaskPeer], threshold: int) -> dict[str, MaskShares]:
        """Sealed shares, by the slot whose secrets they are."""
        request = AskMaskShares(session=self.session, threshold=threshold, peers=tuple(peers))
        found = await self._ask([peer.slot for peer in peers], lambda _: request, LEAST_CLIENTS)
        return {slot: reply for slot, (reply, _) in found.items()}

    async def masked(
        self,
        sealed: Mapping[str, MaskShares],
        weights: Mapping[str, float],
        threshold: int,
        clip_norm: float | None,
    ) -> dict[str, Words]:
        """Masked updates of those that delivered one; of two, each could subtract its own from the sum."""

        def request(slot: str) -> AskMasked:
            return AskMasked(
                session=self.session,
                network=TRAINING,
                sealed={owner: shares.sealed[slot] for owner, shares in sealed.items()},
                weight=weights[slot],
                clip_norm=clip_norm,
            )

        found = await self._ask(list(sealed), request, least_delivered(threshold))
        for slot, (_, arrays) in found.items():
            self.of.exchange.calls.pulled(arrays["y"].nbytes)
            self.of.cluster.slots[slot].heard(self.of.cluster.clock())
        return {slot: arrays["y"].view(np.uint32) for slot, (_, arrays) in found.items()}

    async def unmasking(
        self, delivered: Sequence[str], threshold: int
    ) -> dict[str, Mapping[str, str]]:
        """Shares, by the slot that held them, then by whose they are."""
        request = AskUnmasking(session=self.session, delivered=tuple(delivered))
        found = await self._ask(delivered, lambda _: request, threshold, loses=False)
        return {slot: reply.shares for slot, (reply, _) in found.items()}

    async def _ask(
        self,
        slots: Sequence[str],
        request: Callable[[str], AnsweredBy[R]],
        least: int,
        *,
        loses: bool = True,
    ) -> Answers[R]:
        """Ask all at once. Raises `RoundFailed` if fewer than `least` answered."""
        found: Answers[R] = {}

        async def ask(name: str) -> None:
            slot = self.of.cluster.slots[name]
            try:
                found[name] = await self.of.exchange.calls.ask(slot, request(name), PHASE)
            except NeuralError as failure:
                self.of.left_out.add(slot, str(failure))
                if loses:  # one that has delivered stays part of the sum
                    self.lost[name] = failure.message

        async with anyio.create_task_group() as group:
            for name in slots:
                group.start_soon(ask, name)
        if len(found) < least:
            raise RoundFailed(
                f"secure aggregation had {len(found)} of the {least} workers that it needs in a phase"
                f" ({'; '.join(f'{slot}: {why}' for slot, why in list(self.lost.items())[:3])})",
                hint="see neural_cluster_status; the version before stays in force",
            )
        return {slot: found[slot] for slot in sorted(found, key=slot_order)}


@dataclass(frozen=True)
class Joined:
    """Who takes part in a sum, with what all know of their secrets.

    Attributes:
        session: Name of the sum.
        threshold: How many shares give a secret.
        peers: All that had keys, in the order that signs masks.
        sealed: What those sent with whom every delivered update is masked, by slot.
    """

    session: str
    threshold: int
    peers: Sequence[MaskPeer]
    sealed: Mapping[str, MaskShares]

    def secret(self, owner: str, held: Mapping[int, int], *, lost: bool) -> bytes:
        """The secret of a slot's own mask, or of its masking key if it was lost.

        Raises:
            RoundFailed: The shares do not give what the slot had committed to: a node lied, or too few came.
        """
        try:
            secret = shamir.join(held, self.threshold)
        except ValueError as failure:
            raise self._failed(owner, str(failure)) from failure
        public = next(peer.masking for peer in self.peers if peer.slot == owner)
        known = (
            public_key(secret).hex() == public
            if lost
            else (commitment_to(secret) == self.sealed[owner].own)
        )
        if not known:
            raise self._failed(owner, "a share is not the one that was sent")
        return secret

    def _failed(self, owner: str, why: str) -> RoundFailed:
        return RoundFailed(
            f"the masks of {owner} cannot be taken off: {why}",
            hint="see neural_cluster_status; the version before stays in force",
        )


def unmasked(
    joined: Joined, masked: Mapping[str, Words], shares: Mapping[str, Mapping[str, str]]
) -> Words:
    """The sum of updates without masks. Blocking.

    Costs a mask for each delivered update, and for each pair of a delivered and a lost one.

    Args:
        joined: Who takes part.
        masked: Delivered updates, by slot.
        shares: By the slot that held them, then by whose they are.

    Raises:
        RoundFailed: Shares do not fit.
    """
    order = {peer.slot: place for place, peer in enumerate(joined.peers)}
    public = {peer.slot: bytes.fromhex(peer.masking) for peer in joined.peers}
    total: Words = np.zeros_like(next(iter(masked.values())))
    for words in masked.values():
        total += words
    for owner in joined.sealed:
        held = {
            order[holder] + 1: int(own[owner], 16) for holder, own in shares.items() if owner in own
        }
        secret = joined.secret(owner, held, lost=owner not in masked)
        if owner in masked:
            total -= mask(secret, total.size)
            continue
        for slot in masked:
            purpose = masking(joined.session, owner, slot)
            words = mask(agreed_key(secret, public[slot], purpose), total.size)
            # `slot` added it if it stands before the lost one, and subtracted it otherwise.
            total += -words if order[slot] < order[owner] else words
    return total
