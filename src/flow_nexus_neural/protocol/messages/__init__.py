"""All requests of the engine to a node and all replies of a node. No other message is accepted.

A node only sends replies (its `Ready` is the reply to its start). Arrays travel in the frame's body and are
described by `arrays.ArrayLayout`; regions travel as descriptors with a `Grant`.

One module a subject: replies stand beside their requests, or in `replies` where several subjects share them,
because every request names the class of its reply. `protocol.contract` explains what else a request declares.
To add a request: its class in a module of this package, its name and its reply's in the unions below, and its
case in `node.service`.
"""

from typing import Annotated

from pydantic import Field

from flow_nexus_neural.protocol.messages.commitments import Commitment, ProofOrder
from flow_nexus_neural.protocol.messages.folding import (
    MAX_PARTS,
    MAX_SOURCES,
    Fold,
    Folded,
    FoldPart,
    FoldSource,
)
from flow_nexus_neural.protocol.messages.links import (
    LINK_LAYOUT,
    Announce,
    Observe,
    Observed,
    Sight,
)
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
from flow_nexus_neural.protocol.messages.memory import Grant, Host, Revoke, Shutdown
from flow_nexus_neural.protocol.messages.private_steps import PrivateSteps
from flow_nexus_neural.protocol.messages.proofs import (
    Reexecute,
    Reexecuted,
    Reveal,
    Revealed,
)
from flow_nexus_neural.protocol.messages.raft import RaftHeld, RaftHold, RaftStep, RaftStepped
from flow_nexus_neural.protocol.messages.replies import (
    Built,
    Done,
    Failed,
    Loaded,
    Outputs,
    Pong,
    Ready,
    Trained,
    Weights,
)
from flow_nexus_neural.protocol.messages.values import (
    MAX_CPU_S,
    MAX_LOSS,
    MAX_ROUNDING,
    NODE_BATCH_SIZE,
    NODE_LEARNING_RATE,
    UNTOLD,
    ClassWeight,
    Digest,
    Seed,
)
from flow_nexus_neural.protocol.messages.work import (
    Build,
    Cancel,
    GetWeights,
    Infer,
    Load,
    Pass,
    Ping,
    Predict,
    Together,
    Train,
)

Reply = Annotated[
    Ready
    | Pong
    | Done
    | Built
    | Weights
    | Loaded
    | Trained
    | Outputs
    | Observed
    | Folded
    | Revealed
    | Reexecuted
    | RaftStepped
    | RaftHeld
    | MaskKeys
    | MaskShares
    | Masked
    | Unmasking
    | Failed,
    Field(discriminator="kind"),
]


TransportRequest = Grant | Host | Revoke | Shutdown
"""Answered by `protocol.dispatch`, independently of the node's service."""

ServiceRequest = (
    Ping
    | Cancel
    | Build
    | GetWeights
    | Load
    | Train
    | Infer
    | Predict
    | Announce
    | Observe
    | Fold
    | Reveal
    | Reexecute
    | RaftStep
    | RaftHold
    | AskMaskKeys
    | AskMaskShares
    | AskMasked
    | AskUnmasking
)
"""Answered by the node's service, `node.service`."""

Request = Annotated[TransportRequest | ServiceRequest, Field(discriminator="kind")]

__all__ = [
    "LINK_LAYOUT",
    "MAX_CPU_S",
    "MAX_LOSS",
    "MAX_PARTS",
    "MAX_ROUNDING",
    "MAX_SOURCES",
    "NODE_BATCH_SIZE",
    "NODE_LEARNING_RATE",
    "UNTOLD",
    "Announce",
    "AskMaskKeys",
    "AskMaskShares",
    "AskMasked",
    "AskUnmasking",
    "Build",
    "Built",
    "Cancel",
    "ClassWeight",
    "Commitment",
    "Digest",
    "Done",
    "Failed",
    "Fold",
    "FoldPart",
    "FoldSource",
    "Folded",
    "GetWeights",
    "Grant",
    "Host",
    "Infer",
    "Load",
    "Loaded",
    "MaskKeys",
    "MaskPeer",
    "MaskShares",
    "Masked",
    "Observe",
    "Observed",
    "Outputs",
    "Pass",
    "Ping",
    "Pong",
    "Predict",
    "PrivateSteps",
    "ProofOrder",
    "RaftHeld",
    "RaftHold",
    "RaftStep",
    "RaftStepped",
    "Ready",
    "Reexecute",
    "Reexecuted",
    "Reply",
    "Request",
    "Reveal",
    "Revealed",
    "Revoke",
    "Seed",
    "ServiceRequest",
    "Shutdown",
    "Sight",
    "Together",
    "Train",
    "Trained",
    "TransportRequest",
    "Unmasking",
    "Weights",
]
