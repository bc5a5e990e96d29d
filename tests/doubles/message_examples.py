"""One example of every request, in an order in which a node can answer them all."""

import numpy as np

from flow_nexus_neural.protocol.codec import arrange
from flow_nexus_neural.protocol.messages import (
    LINK_LAYOUT,
    Announce,
    AskMasked,
    AskMaskKeys,
    AskMaskShares,
    AskUnmasking,
    Build,
    Cancel,
    Fold,
    FoldPart,
    FoldSource,
    GetWeights,
    Grant,
    Host,
    Infer,
    Load,
    MaskPeer,
    Observe,
    Ping,
    Predict,
    ProofOrder,
    RaftHold,
    RaftStep,
    Reexecute,
    Reveal,
    Revoke,
    Shutdown,
)
from flow_nexus_neural.protocol.messages.raft import Compacted, Proposed
from flow_nexus_neural.protocol.raft_records import Message, Records, Snapshot
from tests.doubles.linear_service import linear_plan
from tests.doubles.runtimes import TRAIN

ROWS = 5
STATE = {"params": np.arange(4, dtype="f4"), "buffers": np.zeros(0, "f4")}
SHARD = {"x": np.ones((ROWS, 3), "f4"), "y": np.arange(ROWS, dtype="f4")}
STATE_LAYOUT = [(name, "f4", array.shape) for name, array in STATE.items()]

LINK, LINK_BYTES = arrange(LINK_LAYOUT)

WORK = TRAIN.model_copy(
    update={
        "batch_size": 2,
        "proof": ProofOrder(steps=3, segment_steps=2, context="0" * 64),
    }
)

PEERS = tuple(MaskPeer(slot=f"worker-{k}", masking="0" * 64, sealing="0" * 64) for k in range(3))

EXAMPLES = (
    (Ping(), {}),
    (Cancel(), {}),
    (Build(network="net", plan=linear_plan(), seed=1), {}),
    (GetWeights(network="net"), {}),
    (Load(network="net", region="base"), {}),
    (
        WORK,
        {},
    ),
    (Reveal(network="net", segment=1, into="publish"), {}),
    (Reexecute(work=WORK, segment=0, state="base"), {}),
    (RaftHold(region="base", plan=linear_plan()), {}),
    (
        RaftStep(
            voter="worker-0",
            seed=1,
            elapsed_ms=10_000,
            inbox=(Message("prevote", "worker-1", "worker-0", 3),),
            preferred=("worker-0",),
            restore=Records(snapshot=Snapshot(voters=("worker-0",))),
            propose=Proposed(body="record", needs=("d" * 64,)),
            compact=Compacted(index=0, state=""),
        ),
        {},
    ),
    (Infer(network="net", weights="base", data="shard"), {}),
    (Predict(network="net"), {"x": SHARD["x"]}),
    (
        Grant(key="link", writable=True, nbytes=LINK_BYTES, arrays=LINK),
        {"token": np.zeros(1, "i8")},
    ),
    (Announce(key="link", token=7), {}),
    (Observe(keys=("link",), reads=3), {}),
    (AskMaskKeys(session="sum", slot="worker-0"), {}),
    (AskMaskShares(session="sum", threshold=2, peers=PEERS), {}),
    (
        AskMasked(
            session="sum",
            network="net",
            into="publish",
            sealed=dict.fromkeys(("worker-0", "worker-1"), "0" * 164),
            weight=0.5,
        ),
        {},
    ),
    (AskUnmasking(session="sum", delivered=("worker-0", "worker-1")), {}),
    (
        Fold(
            into="publish",
            parts=(
                FoldPart(
                    start=1, stop=3, divisor=2.0, sources=(FoldSource(region="base", weight=4.0),)
                ),
            ),
        ),
        {},
    ),
    (Revoke(keys=("shard",)), {}),
    (Shutdown(), {}),
    (Host(node_id="node-2", incarnation=3, seed=4), {}),
)
"""(request, arrays that go with it); the regions are those of `joined_node.granted_node`."""
