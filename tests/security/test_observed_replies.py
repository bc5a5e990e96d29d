"""What a node may say of its neighbours: anything that a neighbour may have written, and nothing else."""

import json

import pytest

from flow_nexus_neural.errors import ProtocolViolation
from flow_nexus_neural.protocol.codec import MAGIC, PREFIX, FrameLimits
from flow_nexus_neural.protocol.messages import Observe
from flow_nexus_neural.runtime.base import NodeSpec
from flow_nexus_neural.runtime.connection.conversation import Conversation

INCARNATION = 3
READY = {
    "kind": "ready",
    "node_id": "n#3",
    "incarnation": 3,
    "runtime": "r",
    "steps": {},
    "probes": {},
}
SIGHT = {"token": 5, "read_ms": 0.001}


def frame(call_id, message, arrays=()):
    header = {"id": call_id, "inc": INCARNATION, "msg": message, "arrays": list(arrays)}
    text = json.dumps(header).encode()
    return PREFIX.pack(MAGIC, len(text), 0) + text


def observing():
    """A node that was asked to observe two neighbours."""
    end = Conversation(
        NodeSpec("n#3", "worker-0", INCARNATION, 1), lambda outgoing: None, FrameLimits()
    )
    end.receive(frame(0, READY))
    return end, end._begin(Observe(keys=("link:1", "link:2"), reads=3), {}, None)


def observed(*sights):
    return frame(1, {"kind": "observed", "sights": list(sights)})


LIES = {
    "a sight too few": observed(SIGHT),
    "a sight too many": observed(SIGHT, SIGHT, SIGHT),
    "as many as fit": observed(*[None] * 257),
    "a time below zero": observed(SIGHT, SIGHT | {"read_ms": -1e-9}),
    "a time that is no number": observed(SIGHT, SIGHT | {"read_ms": float("nan")}),
    "a time without end": observed(SIGHT, SIGHT | {"read_ms": float("inf")}),
    "a token of 65 bits": observed(SIGHT, SIGHT | {"token": 1 << 64}),
    "a token with a fraction": observed(SIGHT, SIGHT | {"token": 0.5}),
    "a token as text": observed(SIGHT, SIGHT | {"token": "5"}),
    "something more": observed(SIGHT, SIGHT | {"more": 1}),
    "done": frame(1, {"kind": "done"}),
    "an array along": frame(
        1,
        {"kind": "observed", "sights": [SIGHT, SIGHT]},
        [{"name": "token", "dtype": "i8", "shape": [0], "offset": 0, "nbytes": 0}],
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_neighbours_is_a_violation(lie):
    end, _ = observing()
    with pytest.raises(ProtocolViolation):
        end.receive(LIES[lie])


@pytest.mark.parametrize("token", [0, -1, -(1 << 63), (1 << 63) - 1])
def test_no_content_of_a_link_buffer_makes_its_honest_reader_a_violator(token):
    end, call = observing()
    end.receive(observed(SIGHT | {"token": token}, None))
    first, second = call.reply.sights
    assert (first.token, second) == (token, None)
