"""What a node that has been taken over can make the engine read: every lie is a violation, by name.

These frames meet the engine's own end of the wire, with the calls under way that it would have.
"""

import json
import os
import resource

import numpy as np
import pytest

from flow_nexus_neural.errors import Fenced, ProtocolViolation
from flow_nexus_neural.protocol.codec import (
    MAGIC,
    PREFIX,
    REPLY_HEADERS,
    Decoder,
    FrameLimits,
    encode,
)
from flow_nexus_neural.protocol.messages import (
    Build,
    Built,
    Done,
    Failed,
    GetWeights,
    Outputs,
    Ping,
    Pong,
    Predict,
    Ready,
    Weights,
)
from flow_nexus_neural.runtime.base import NodeSpec
from flow_nexus_neural.runtime.connection.conversation import Conversation
from tests.doubles.linear_service import linear_plan

INCARNATION = 3
PONG = Pong(busy=None, steps_done=1, longest_step_ms=0.1)
READY = Ready(node_id="n#3", incarnation=INCARNATION, runtime="r", steps={}, probes={})
PREDICT_CALL, WEIGHTS_CALL = 2, 3
ROWS = 4
Y = np.ones((ROWS, 1), "f4")
DIGEST = "ab" * 32


def conversation():
    """With a built network, and a prediction and its weights asked for."""
    end = Conversation(
        NodeSpec("n#3", "worker-0", INCARNATION, 1), lambda outgoing: None, FrameLimits()
    )
    end.receive(frame(0, READY))
    plan = linear_plan()
    end._begin(Build(network="net", plan=plan, seed=1), {}, None)
    built = Built(n_params=plan.n_params, n_buffers=plan.n_buffers, digest=DIGEST)
    end.receive(frame(1, built))
    end._begin(Predict(network="net"), {"x": np.ones((ROWS, 3), "f4")}, None)
    end._begin(GetWeights(network="net"), {}, None)
    return end


def frame(call_id, message, arrays=None, incarnation=INCARNATION):
    return b"".join(encode(call_id, incarnation, message, arrays))


def raw(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return PREFIX.pack(MAGIC, len(text), len(body)) + text + body


def outputs(**changes):
    """A header for the awaited prediction, with changes."""
    body = changes.pop("body", Y.tobytes())
    layout = {"name": "y", "dtype": "f4", "shape": [ROWS, 1], "offset": 0, "nbytes": 4 * ROWS}
    header = {
        "id": PREDICT_CALL,
        "inc": INCARNATION,
        "msg": {"kind": "outputs", "digest": DIGEST},
        "arrays": [layout | changes.pop("layout", {})],
    }
    return raw(header | changes, body)


LIES = {
    "a body of 2^63 bytes": PREFIX.pack(MAGIC, 2, 1 << 63),
    "a header of 2^31 bytes": PREFIX.pack(MAGIC, 1 << 31, 0),
    "a body longer than the longest awaited": PREFIX.pack(MAGIC, 10, 4 * ROWS + 1),
    "another magic": b"HTTP" + bytes(12),
    "garbage": bytes(range(256)),
    "a header that is no json": raw(b"\x00\xff{}"),
    "a header that is json of another kind": raw([1, 2, 3]),
    "deep nesting": raw(b"[" * 100_000),
    "an unknown message": outputs(msg={"kind": "exec", "code": "1"}),
    "a request for an answer": outputs(msg={"kind": "ping"}),
    "an unknown field": outputs(msg={"kind": "outputs", "digest": DIGEST, "more": 1}),
    "a number as text": outputs(id=str(PREDICT_CALL)),
    "a number that is not whole": outputs(id=2.5),
    "a negative call": outputs(id=-1),
    "a call that is not under way": frame(99, Outputs(digest=DIGEST), {"y": Y}),
    "a call that has been answered": frame(1, Done()),
    "a second ready": frame(0, READY),
    "the reply to another call": frame(PREDICT_CALL, Weights(digest=DIGEST)),
    "a pong for a prediction": frame(PREDICT_CALL, PONG),
    "another dtype": frame(PREDICT_CALL, Outputs(digest=DIGEST), {"y": Y.astype("f8")}),
    "a dtype of objects": outputs(layout={"dtype": "O"}),
    "another shape": frame(PREDICT_CALL, Outputs(digest=DIGEST), {"y": Y.reshape(1, ROWS)}),
    "too few rows": frame(PREDICT_CALL, Outputs(digest=DIGEST), {"y": Y[:2]}),
    "a shape whose product overflows": outputs(layout={"shape": [1 << 33, 1 << 33]}),
    "a shape of more than four axes": outputs(layout={"shape": [1, 1, 1, ROWS, 1]}),
    "a negative axis": outputs(layout={"shape": [-ROWS, 1]}),
    "an offset outside": outputs(layout={"offset": 8}),
    "a length that does not fit the shape": outputs(layout={"nbytes": 8}),
    "trailing bytes": outputs(
        body=Y.tobytes()[:-4] + bytes(8), layout={"shape": [3, 1], "nbytes": 12}
    ),
    "no array": outputs(arrays=[], body=b""),
    "an array too many": frame(PREDICT_CALL, Outputs(digest=DIGEST), {"y": Y, "z": Y[:0]}),
    "an array with another name": frame(PREDICT_CALL, Outputs(digest=DIGEST), {"z": Y}),
    "overlapping arrays": raw(
        {
            "id": WEIGHTS_CALL,
            "inc": INCARNATION,
            "msg": {"kind": "weights", "digest": DIGEST},
            "arrays": [
                {"name": "params", "dtype": "f4", "shape": [4], "offset": 0, "nbytes": 16},
                {"name": "buffers", "dtype": "f4", "shape": [0], "offset": 8, "nbytes": 0},
            ],
        },
        bytes(16),
    ),
    "one name for two arrays": raw(
        {
            "id": WEIGHTS_CALL,
            "inc": INCARNATION,
            "msg": {"kind": "weights", "digest": DIGEST},
            "arrays": [
                {"name": "params", "dtype": "f4", "shape": [2], "offset": o, "nbytes": 8}
                for o in (0, 8)
            ],
        },
        bytes(16),
    ),
    "a digest that is none": outputs(msg={"kind": "outputs", "digest": "x"}),
    "a failure with arrays": frame(PREDICT_CALL, Failed(type="x", message="y"), {"y": Y}),
    "a failure with an endless message": outputs(
        msg={"kind": "failed", "type": "x", "message": "y" * 3000}, arrays=[], body=b""
    ),
    "not a number where a number is awaited": outputs(
        msg={"kind": "pong", "busy": None, "steps_done": 1, "longest_step_ms": "nan"}
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_a_violation(lie):
    end = conversation()
    with pytest.raises(ProtocolViolation):
        end.receive(LIES[lie])
    with pytest.raises(ProtocolViolation):
        end.receive(frame(PREDICT_CALL, Outputs(digest=DIGEST), {"y": Y}))


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_noticed_byte_by_byte_too(lie):
    end = conversation()
    with pytest.raises(ProtocolViolation):
        _receive_slowly(end, LIES[lie])


def _receive_slowly(end, data):
    for start in range(len(data)):
        end.receive(data[start : start + 1])


def test_the_honest_reply_is_taken():
    end = conversation()
    end.receive(frame(PREDICT_CALL, Outputs(digest=DIGEST), {"y": Y}))
    assert end.waiting == 1
    end.receive(frame(WEIGHTS_CALL, Failed(type="busy", message="train runs")))
    assert end.waiting == 0


def test_another_incarnation_is_fenced():
    for incarnation in (INCARNATION - 1, INCARNATION + 1):
        with pytest.raises(Fenced):
            conversation().receive(
                frame(PREDICT_CALL, Outputs(digest=DIGEST), {"y": Y}, incarnation=incarnation)
            )


def test_a_node_that_was_asked_nothing_may_say_nothing():
    end = Conversation(
        NodeSpec("n#3", "worker-0", INCARNATION, 1), lambda outgoing: None, FrameLimits()
    )
    end.receive(frame(0, READY))
    with pytest.raises(ProtocolViolation, match="without being asked"):
        end.receive(PREFIX.pack(MAGIC, 2, 0))


def test_ready_must_come_from_the_node_that_was_started():
    end = Conversation(
        NodeSpec("n#3", "worker-0", INCARNATION, 1), lambda outgoing: None, FrameLimits()
    )
    with pytest.raises(ProtocolViolation, match="other"):
        end.receive(frame(0, READY.model_copy(update={"node_id": "other"})))


def test_a_truncated_frame_is_kept_waiting_and_costs_no_more_than_was_announced():
    whole = frame(PREDICT_CALL, Outputs(digest=DIGEST), {"y": Y})
    end = conversation()
    end.receive(whole[:-1])
    assert end.waiting == 2
    end.receive(whole[-1:])
    assert end.waiting == 1


def test_announced_lengths_are_judged_before_anything_is_allocated():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        with pytest.raises(ProtocolViolation):
            conversation().receive(PREFIX.pack(MAGIC, 1 << 31, 1 << 40))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_numbers_that_are_not_finite_are_refused_in_messages():
    for text in ("NaN", "Infinity", "-Infinity", "1e999"):
        end = conversation()
        end._begin(Ping(), {}, None)
        header = (
            f'{{"id":4,"inc":{INCARNATION},"msg":{{"kind":"pong","busy":null,"steps_done":1,'
            f'"longest_step_ms":{text}}},"arrays":[]}}'
        )
        with pytest.raises(ProtocolViolation):
            end.receive(raw(header.encode()))


FUZZED_FRAMES = int(os.environ.get("FUZZ_FRAMES", "10000"))


@pytest.mark.timeout(600 + FUZZED_FRAMES // 100)
def test_mutated_replies_are_refused_or_still_the_awaited_ones():
    """`FUZZ_FRAMES=1000000` makes it the long profile."""
    draw = np.random.Generator(np.random.PCG64(9))
    templates = [
        frame(PREDICT_CALL, Outputs(digest=DIGEST), {"y": Y}),
        frame(PREDICT_CALL, Failed(type="busy", message="train runs")),
        frame(
            WEIGHTS_CALL,
            Weights(digest=DIGEST),
            {"params": np.ones(4, "f4"), "buffers": np.zeros(0, "f4")},
        ),
    ]
    refused = 0
    end = conversation()
    for number in range(FUZZED_FRAMES):
        mutant = _mutate(bytearray(templates[number % len(templates)]), draw)
        try:
            Decoder(REPLY_HEADERS, end).feed(mutant)
        except (ProtocolViolation, Fenced):
            refused += 1
    assert refused > FUZZED_FRAMES // 2


def _mutate(mutant, draw):
    for _ in range(draw.integers(1, 4)):
        place = int(draw.integers(len(mutant)))
        kind = draw.integers(5)
        if kind == 0:
            mutant[place] ^= 1 << int(draw.integers(8))
        elif kind == 1:
            mutant[place] = int(draw.integers(256))
        elif kind == 2:
            del mutant[place : place + int(draw.integers(1, 9))]
        elif kind == 3:
            mutant[place:place] = draw.bytes(int(draw.integers(1, 9)))
        else:
            other = int(draw.integers(len(mutant)))
            mutant[place : place + 4] = mutant[other : other + 4]
        if not mutant:
            return bytearray(b"\0")
    return mutant
