"""A node's part in secure aggregation: its keys, its shares of others' secrets, its masked update.

Keys come from the system's generator, are of one sum, and never leave the node but in sealed shares.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.secure_sum import least_delivered
from flow_nexus_neural.kernels.secure import shamir
from flow_nexus_neural.kernels.secure.agreement import agreed_key, public_key, seal, unseal
from flow_nexus_neural.kernels.secure.masks import Masks, Words, clip_factor_of, write_masked
from flow_nexus_neural.kernels.secure.purposes import (
    about_shares,
    commitment_to,
    masking,
    sealing,
)
from flow_nexus_neural.node.regions import Region, words_of
from flow_nexus_neural.protocol.messages.masking import (
    AskMasked,
    AskMaskKeys,
    AskMaskShares,
    AskUnmasking,
    Masked,
    MaskKeys,
    MaskPeer,
    MaskShares,
    Unmasking,
)

Asked = AskMaskKeys | AskMaskShares | AskMasked | AskUnmasking
Told = MaskKeys | MaskShares | Masked | Unmasking


class MaskSeat:
    """What a node keeps for secure sums: the present one, and updates that are trained and not yet masked."""

    def __init__(self) -> None:
        self._session: MaskSession | None = None
        self._kept: dict[str, NDArray[np.float32]] = {}

    def keep(self, network: str, update: NDArray[np.float32]) -> None:
        """Keep the update of a network, in place of a former one."""
        self._kept[network] = update

    def answer(self, request: Asked, region: Callable[[str], Region]) -> Told:
        """Answer a request of any phase.

        Args:
            request: Of the present sum, or for the keys of another.
            region: Finds what was granted under a key.

        Raises:
            LookupError: It is about another sum, or there is no update to mask, or no region.
            ValueError: As the methods of `MaskSession`, or the region does not fit.
        """
        if isinstance(request, AskMaskKeys):
            self._session = MaskSession.begin(request)
            return self._session.keys()
        session = self._session
        if session is None or session.name != request.session:
            raise LookupError(f"this node takes part in no sum {request.session!r}")
        if isinstance(request, AskMaskShares):
            return session.share(request)
        if isinstance(request, AskUnmasking):
            return session.unmask(request)
        update = self._kept.pop(request.network, None)  # one update is masked once
        if update is None:
            raise LookupError(f"this node keeps no update of {request.network!r}")
        session.write_masked(request, update, words_of(region(request.into), update.size))
        return Masked()


@dataclass
class MaskSession:
    """One sum, as one node takes part in it.

    Attributes:
        peers: All that share secrets, by slot, in the order that signs masks.
        held: Of each slot, its share of its own mask and of its masking key.
    """

    name: str
    slot: str
    peers: dict[str, MaskPeer] = field(default_factory=dict)
    threshold: int = 0
    held: dict[str, tuple[str, str]] = field(default_factory=dict)
    unmasked: bool = False
    _masking: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    _sealing: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    _own: bytes = field(default_factory=lambda: os.urandom(32), repr=False)

    @classmethod
    def begin(cls, request: AskMaskKeys) -> "MaskSession":
        """With fresh keys."""
        return cls(request.session, request.slot)

    def keys(self) -> MaskKeys:
        """The public halves."""
        return MaskKeys(
            masking=public_key(self._masking).hex(), sealing=public_key(self._sealing).hex()
        )

    def share(self, request: AskMaskShares) -> MaskShares:
        """Split both secrets among all, each share sealed for the one that holds it.

        Raises:
            ValueError: It was done before, this node is not among them under its own keys, or so few shares
                would do that two groups could each take the masks off.
        """
        peers = {peer.slot: peer for peer in request.peers}
        own, mine = peers.get(self.slot), self.keys()
        if self.peers or len(peers) != len(request.peers) or own is None:
            raise ValueError(f"session {self.name} cannot be shared like this")
        if (own.masking, own.sealing) != (mine.masking, mine.sealing):
            raise ValueError(f"the keys of {self.slot} are not its own")
        if not len(peers) < 2 * request.threshold <= 2 * len(peers):
            raise ValueError("the threshold must be above a half of those that take part")
        self.peers, self.threshold = peers, request.threshold
        places = {slot: place for place, slot in enumerate(peers, 1)}
        split = [
            self._split(secret, list(places.values())) for secret in (self._own, self._masking)
        ]
        sealed = {
            slot: seal(
                agreed_key(
                    self._sealing, bytes.fromhex(peer.sealing), sealing(self.name, self.slot, slot)
                ),
                b"".join(
                    shares[places[slot]].to_bytes(shamir.SHARE_BYTES, "big") for shares in split
                ),
                about_shares(self.slot, slot),
            ).hex()
            for slot, peer in peers.items()
        }
        return MaskShares(own=commitment_to(self._own), sealed=sealed)

    def write_masked(self, request: AskMasked, update: NDArray[np.float32], into: Words) -> None:
        """Write the weighted update plus the masks with all whose shares came.

        Args:
            request: Names the others.
            update: [d].
            into: [d], overwritten; never with a word that lacks a mask.

        Raises:
            ValueError: It was done before, fewer than the threshold or than three take part, a share was
                altered, or a coordinate leaves the range.
        """
        others = [slot for slot in self.peers if slot in request.sealed]
        if self.held or self.slot not in others or len(others) < least_delivered(self.threshold):
            raise ValueError(f"session {self.name} cannot be masked like this")
        factor = (
            1.0
            if request.clip_norm is None
            else clip_factor_of(update, request.clip_norm, request.weight)
        )
        self.held = {slot: self._opened(slot, request.sealed[slot]) for slot in others}
        here = others.index(self.slot)
        masks = Masks(
            into.size,
            added=[self._own, *map(self._common, others[here + 1 :])],
            subtracted=map(self._common, others[:here]),
        )
        write_masked(into, update, request.weight, factor, masks)

    def unmask(self, request: AskUnmasking) -> Unmasking:
        """One share of each slot; never both of one.

        Raises:
            ValueError: It was done before, or the sum is not of enough updates that all belong to it.
        """
        delivered, least = set(request.delivered), least_delivered(self.threshold)
        if self.unmasked or not delivered <= self.held.keys() or len(delivered) < least:
            raise ValueError(f"session {self.name} cannot be unmasked like this")
        self.unmasked = True
        return Unmasking(
            shares={
                slot: shares[0] if slot in delivered else shares[1]
                for slot, shares in self.held.items()
            }
        )

    def _split(self, secret: bytes, places: Sequence[int]) -> Mapping[int, int]:
        # 48 bytes modulo a prime of 257 bits: no value is likelier than another by more than 2^-127.
        drawn = [
            int.from_bytes(os.urandom(48), "big") % shamir.PRIME for _ in range(self.threshold - 1)
        ]
        return shamir.split(secret, places, drawn)

    def _opened(self, slot: str, sealed: str) -> tuple[str, str]:
        peer = self.peers[slot]
        key = agreed_key(
            self._sealing, bytes.fromhex(peer.sealing), sealing(self.name, slot, self.slot)
        )
        shares = unseal(key, bytes.fromhex(sealed), about_shares(slot, self.slot))
        half = shamir.SHARE_BYTES
        return shares[:half].hex(), shares[half:].hex()

    def _common(self, slot: str) -> bytes:
        other = bytes.fromhex(self.peers[slot].masking)
        return agreed_key(self._masking, other, masking(self.name, self.slot, slot))
