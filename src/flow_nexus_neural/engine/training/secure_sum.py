"""Secure aggregation: the engine gets masked updates and their sum, and no single update.

The phases of `protocol.messages.masking`, one after the other, among the workers that have trained. Each may
lose workers; from the third on those that are left take off what the lost ones have left in the sum. The
engine carries public keys and sealed shares between them.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, islice

import anyio
import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy, Combined
from flow_nexus_neural.coordination.consensus.private_averaging import PrivateAveraging
from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.coordination.secure_sum import (
    LEAST_CLIENTS,
    least_delivered,
    threshold_of,
)
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.patience import Deadline
from flow_nexus_neural.engine.reports import ExchangeReport
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.exchange import TRAINING, Exchange
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.private_sums import PrivateSums
from flow_nexus_neural.engine.versions.aggregate import Aggregated, stepped, with_params
from flow_nexus_neural.errors import NeuralError, RoundFailed
from flow_nexus_neural.kernels.secure import shamir
from flow_nexus_neural.kernels.secure.agreement import agreed_key, public_key
from flow_nexus_neural.kernels.secure.masks import Masks, ReadWords, Words, decode, sum_without
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
MASK_BYTES = 4
"""Of each word of a masked update, one for each parameter."""
MOST_TRIES = 300
"""Sets of shares from which a secret is tried to be joined, where some of them are wrong."""
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
        began_s, lost, offload = (
            self.cluster.clock(),
            dict[str, str](),
            self.cluster.context.offload,
        )
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
        self.exchange.calls.pulled(len(masked) * MASK_BYTES * network.plan.n_params)
        shares = await ask.unmasking(list(masked), threshold)
        joined = Joined(ask.session, threshold, peers, sealed)
        total = await offload(unmasked, joined, network.plan.n_params, masked, shares)
        for name, why in joined.wrong().items():
            self.left_out.add(self.cluster.slots[name], why)
        share = sum(weights[slot] for slot in masked)
        told: dict[str, JsonValue] = {"delivered": len(masked), "threshold": threshold}
        evidence: dict[str, JsonValue] = {"secure": told}
        if noised is None:
            state = await offload(_moved, base, self.policy, total, share)
        else:
            made = await offload(_noised, base, noised, total, len(asked))
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
        self, network: NetworkGroup, masked: Collection[str], began_s: float
    ) -> ExchangeReport:
        links, nbytes = self.cluster.state.links, MASK_BYTES * network.plan.n_params
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
    ) -> dict[str, ReadWords]:
        """How to read masked updates, of those that delivered one.

        Of two, each could subtract its own from the sum.
        """
        buffers = {slot: self.of.exchange.buffer(slot) for slot in sealed}

        def request(slot: str) -> AskMasked:
            return AskMasked(
                session=self.session,
                network=TRAINING,
                into=buffers[slot].key,
                sealed={owner: shares.sealed[slot] for owner, shares in sealed.items()},
                weight=weights[slot],
                clip_norm=clip_norm,
            )

        found = await self._ask(list(sealed), request, least_delivered(threshold))
        return {slot: partial(buffers[slot].read, "params") for slot in found}

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
            lost = "; ".join(f"{slot}: {why}" for slot, why in list(self.lost.items())[:3])
            raise RoundFailed(
                f"secure aggregation had {len(found)} of the {least} workers that it needs in a phase"
                + (f" ({lost})" if lost else ""),
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
        misfits: Pairs of a holder and the slot of whose secret its share is wrong, as they were found.
    """

    session: str
    threshold: int
    peers: Sequence[MaskPeer]
    sealed: Mapping[str, MaskShares]
    misfits: list[tuple[str, str]] = field(default_factory=list)

    def secret(self, owner: str, held: Mapping[int, int], *, lost: bool) -> bytes:
        """The secret of a slot's own mask, or of its masking key if it was lost.

        Where the lowest shares do not give what the slot had committed to, others are tried, and those that
        do not fit the ones that do are noted in `misfits`.

        Raises:
            RoundFailed: No shares that were tried do: too many are wrong, or too few came.
        """
        if len(held) < self.threshold:
            few = f"{len(held)} shares are there and {self.threshold} are needed"
            raise self._failed(owner, few)
        for number, without in enumerate(self._doubted(held)):
            kept = {place: share for place, share in held.items() if place not in without}
            secret = self._committed(owner, kept, lost=lost)
            if secret is None:
                continue
            for place, share in held.items() if number or without else ():
                if share != shamir.share_at(kept, self.threshold, place):
                    self.misfits.append((self.peers[place - 1].slot, owner))
            return secret
        raise self._failed(owner, "a share is not the one that was sent")

    def wrong(self) -> dict[str, str]:
        """Whom the misfits accuse, and of what.

        A share may be wrong since its holder lies or since its owner sent it so: the one of both is named
        that is part of more misfits, and the holder where both are part of as many.
        """
        holders = Counter(holder for holder, _ in self.misfits)
        owners = Counter(owner for _, owner in self.misfits)
        told: dict[str, str] = {}
        for holder, owner in self.misfits:
            at_fault = owner if owners[owner] > holders[holder] else holder
            told[at_fault] = (
                f"secure aggregation: what {holder} gave as its share of the secret of {owner} is wrong, by"
                f" {holder} or by {owner}; the sum was unmasked with the shares of others"
            )
        return told

    def _doubted(self, held: Mapping[int, int]) -> Iterator[Collection[int]]:
        """Places to be left out: those that were wrong before, then nobody, then one after the other."""
        spare = len(held) - self.threshold
        order = {peer.slot: place for place, peer in enumerate(self.peers, 1)}
        known = {order[holder] for holder, _ in self.misfits} & held.keys()
        if known and len(known) <= spare:
            yield known
        sets = (one for size in range(spare + 1) for one in combinations(sorted(held), size))
        yield from islice(sets, MOST_TRIES)

    def _committed(self, owner: str, held: Mapping[int, int], *, lost: bool) -> bytes | None:
        """The secret that these shares give; None if the slot had committed to another."""
        try:
            secret = shamir.join(held, self.threshold)
        except ValueError:
            return None
        if lost:
            public = next(peer.masking for peer in self.peers if peer.slot == owner)
            return secret if public_key(secret).hex() == public else None
        return secret if commitment_to(secret) == self.sealed[owner].own else None

    def _failed(self, owner: str, why: str) -> RoundFailed:
        return RoundFailed(
            f"the masks of {owner} cannot be taken off: {why}",
            hint="see neural_cluster_status; the version before stays in force",
        )


def unmasked(
    joined: Joined,
    n: int,
    masked: Mapping[str, ReadWords],
    shares: Mapping[str, Mapping[str, str]],
) -> Words:
    """The sum of updates without masks. Blocking.

    Costs a mask for each delivered update, and for each pair of a delivered and a lost one.

    Args:
        joined: Who takes part.
        n: Words of each.
        masked: Delivered updates, by slot.
        shares: By the slot that held them, then by whose they are.

    Raises:
        RoundFailed: Shares do not fit.
    """
    order = {peer.slot: place for place, peer in enumerate(joined.peers)}
    public = {peer.slot: bytes.fromhex(peer.masking) for peer in joined.peers}
    added: list[bytes] = []
    subtracted: list[bytes] = []
    for owner in joined.sealed:
        held = {
            order[holder] + 1: int(own[owner], 16) for holder, own in shares.items() if owner in own
        }
        secret = joined.secret(owner, held, lost=owner not in masked)
        if owner in masked:
            subtracted.append(secret)
            continue
        for slot in masked:
            purpose = masking(joined.session, owner, slot)
            key = agreed_key(secret, public[slot], purpose)
            # `slot` added it if it stands before the lost one, and subtracted it otherwise.
            (subtracted if order[slot] < order[owner] else added).append(key)
    return sum_without(n, list(masked.values()), Masks(n, added, subtracted))


def _moved(base: ModelState, policy: AggregationPolicy, total: Words, share: float) -> ModelState:
    """The next state from an unmasked sum, of updates whose weights sum to `share`. Blocking."""
    mean = decode(total)
    mean /= share
    mean += base.params
    return stepped(base, policy, mean.astype(np.float32))


def _noised(base: ModelState, private: PrivateAveraging, total: Words, clients: int) -> Combined:
    """What becomes of an unmasked sum with noise; each update had the weight 1 / clients. Blocking."""
    kept = base.server.vectors if base.server is not None else {}
    changes = decode(total)
    changes *= clients
    return private.go_on_from({**base.arrays, **kept}, changes)
