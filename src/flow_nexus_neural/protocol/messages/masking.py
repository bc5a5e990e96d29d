"""Secure aggregation: nodes agree on masks, send masked updates, and help to take off what is left.

Rounds 0, 1, 2 and 4 of Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine
Learning", CCS 2017, section 4, for an engine that follows the protocol. `session` names one sum; it is part
of every key, so that nothing of one sum fits another.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from flow_nexus_neural.protocol.contract import AnsweredBy
from flow_nexus_neural.protocol.messages.values import Digest
from flow_nexus_neural.protocol.plan import Frozen, Name

MAX_MASKED = 64

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Sealed = Annotated[str, Field(pattern=r"^[0-9a-f]{164}$")]
"""Two shares of 33 bytes and a tag of 16."""
Share = Annotated[str, Field(pattern=r"^[0-9a-f]{66}$")]


class MaskKeys(Frozen):
    """Public keys of one node for one sum: to agree on masks, and to seal shares."""

    kind: Literal["mask_keys"] = "mask_keys"
    masking: Key
    sealing: Key


class AskMaskKeys(AnsweredBy[MaskKeys]):
    """Draw fresh keys for a sum; ends a former one."""

    kind: Literal["ask_mask_keys"] = "ask_mask_keys"
    session: Name
    slot: Name


class MaskPeer(Frozen):
    """The public keys of one node, in the order of slots in which pairs add and subtract."""

    slot: Name
    masking: Key
    sealing: Key


class MaskShares(Frozen):
    """Sealed shares of this node's secrets, by the slot that can read them.

    `own` commits to the secret of its own mask; the public key commits to the other one.
    """

    kind: Literal["mask_shares"] = "mask_shares"
    own: Digest
    sealed: Annotated[dict[Name, Sealed], Field(max_length=MAX_MASKED)]


class AskMaskShares(AnsweredBy[MaskShares]):
    """Share this node's secrets among all, so that any `threshold` of them can take its masks off."""

    kind: Literal["ask_mask_shares"] = "ask_mask_shares"
    session: Name
    threshold: Annotated[int, Field(ge=2, le=MAX_MASKED)]
    peers: Annotated[tuple[MaskPeer, ...], Field(min_length=3, max_length=MAX_MASKED)]

    @override
    def fault_of(self, reply: MaskShares) -> str | None:
        wanted = {peer.slot for peer in self.peers}
        return (
            None if set(reply.sealed) == wanted else "the shares are not for those that take part"
        )


class Masked(Frozen):
    """The masked update is in its region."""

    kind: Literal["masked"] = "masked"


class AskMasked(AnsweredBy[Masked]):
    """Write the masked update of the training that was kept: in fixed point, plus masks, modulo 2^32.

    Attributes:
        into: Writable region; the words replace the bits of its array `params` [n_params].
        sealed: The shares for this node, by the slot whose secrets they are; only these slots take part.
        weight: By which the update is multiplied.
        clip_norm: L2 norm to which the node clips its update before that; None for no limit.
    """

    is_long: ClassVar[bool] = True

    kind: Literal["ask_masked"] = "ask_masked"
    session: Name
    network: Name
    into: Name
    sealed: Annotated[dict[Name, Sealed], Field(min_length=2, max_length=MAX_MASKED)]
    weight: Annotated[float, Field(gt=0, le=1)]
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @override
    def region_filled(self) -> str:
        return self.into


class Unmasking(Frozen):
    """One share of each slot: of its own mask if it delivered, of its masking key if it did not."""

    kind: Literal["unmasking"] = "unmasking"
    shares: Annotated[dict[Name, Share], Field(max_length=MAX_MASKED)]


class AskUnmasking(AnsweredBy[Unmasking]):
    """Help to take off the masks of a sum; answered once: both shares of a slot would bare its update."""

    kind: Literal["ask_unmasking"] = "ask_unmasking"
    session: Name
    delivered: Annotated[tuple[Name, ...], Field(min_length=2, max_length=MAX_MASKED)]

    @override
    def fault_of(self, reply: Unmasking) -> str | None:
        return None if set(self.delivered) <= set(reply.shares) else "shares are missing"
