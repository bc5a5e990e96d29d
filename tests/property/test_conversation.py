"""Whatever a node sends, in whatever order, a call ends once and truthfully."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flow_nexus_neural.errors import Fenced, NodeUnavailable, ProtocolViolation
from flow_nexus_neural.protocol.codec import REQUEST_HEADERS, Decoder, FrameLimits, encode
from flow_nexus_neural.protocol.messages import (
    Build,
    Built,
    Done,
    Failed,
    Outputs,
    Ping,
    Pong,
    Predict,
    Ready,
    Revoke,
)
from flow_nexus_neural.runtime.connection.conversation import Conversation
from flow_nexus_neural.runtime.process.exits import describe_exit
from tests.doubles.linear_service import linear_plan
from tests.doubles.runtimes import spec

PLANS = [linear_plan(), linear_plan(outputs=2)]
PONG = Pong(busy=None, steps_done=1, longest_step_ms=0.0)


class ConversationMachine(RuleBasedStateMachine):
    """The engine's end between a caller who gives up at will and a node that answers, or lies."""

    def __init__(self):
        super().__init__()
        self.sent = []
        self.spec = spec(incarnation=5)
        self.conversation = Conversation(self.spec, self.sent.append, FrameLimits())
        self.decoder = Decoder(REQUEST_HEADERS, FrameLimits())
        self.calls = {}
        self.open = {}
        self.over = False
        ready = Ready(node_id=self.spec.node_id, incarnation=5, runtime="r", steps={}, probes={})
        self.conversation.receive(b"".join(encode(0, 5, ready)))
        self.plan = None

    def begin(self, request, arrays=None):
        call = self.conversation._begin(request, arrays or {}, None)
        buffers = self.sent.pop().buffers
        (frame,) = self.decoder.feed(b"".join(buffers))
        self.calls[frame.call_id] = call
        self.open[frame.call_id] = frame
        return call

    @precondition(lambda self: not self.over)
    @rule(rows=st.integers(0, 3), plan=st.sampled_from(PLANS), kind=st.integers(0, 3))
    def ask(self, rows, plan, kind):
        request = [
            Ping(),
            Revoke(keys=("a",)),
            Build(network="n", plan=plan, seed=1),
            Predict(network="n"),
        ][kind]
        self.begin(request, {"x": np.zeros((rows, 3), "f4")} if kind == 3 else None)

    @precondition(lambda self: self.open and not self.over)
    @rule(data=st.data())
    def give_up(self, data):
        self.calls[data.draw(st.sampled_from(sorted(self.open)))].given_up = True

    def honest(self, frame):
        message = frame.message
        if isinstance(message, Ping):
            return PONG, {}
        if isinstance(message, Revoke):
            return Done(), {}
        if isinstance(message, Build):
            self.plan = message.plan
            sizes = {"n_params": message.plan.n_params, "n_buffers": 0}
            return Built(**sizes, digest="ab" * 32), {}
        if self.plan is None:
            return Failed(type="KeyError", message="n"), {}
        rows = len(frame.arrays["x"])
        return Outputs(digest=None), {"y": np.ones((rows, self.plan.n_outputs), "f4")}

    @precondition(lambda self: self.open and not self.over)
    @rule(split=st.integers(0, 400), fails=st.booleans())
    def answer_honestly(self, split, fails):
        call_id = min(self.open)
        frame = self.open.pop(call_id)
        reply, arrays = (Failed(type="E", message="m"), {}) if fails else self.honest(frame)
        data = b"".join(encode(call_id, 5, reply, arrays))
        self.conversation.receive(data[:split])
        self.conversation.receive(data[split:])
        call = self.calls[call_id]
        assert call.answered.is_set() != call.given_up
        if not call.given_up:
            assert call.reply == reply
            assert list(call.arrays) == list(arrays)

    @precondition(lambda self: not self.over)
    @rule(lie=st.integers(0, 4), data=st.data())
    def lie(self, lie, data):
        known = sorted(self.open) or [0]
        call_id = data.draw(st.sampled_from(known))
        lies = [
            encode(max(self.calls, default=0) + 1, 5, PONG),
            encode(call_id, 4, PONG),
            encode(call_id, 5, Outputs(digest=None), {"y": np.ones((9, 7), "f4")}),
            encode(call_id, 5, Failed(type="E", message="m"), {"y": np.ones(1)}),
            [b"\xff" * 32],
        ]
        with pytest.raises((ProtocolViolation, Fenced)) as caught:
            self.conversation.receive(b"".join(lies[lie]))
        self.end(caught.value)

    @precondition(lambda self: not self.over)
    @rule()
    def die(self):
        self.end(None)

    def end(self, violation):
        exit_ = describe_exit(None, "", None)
        self.conversation.end(exit_, violation)
        self.over = True
        for call_id in self.open:
            call = self.calls[call_id]
            assert call.answered.is_set()
            assert call.failure is not None
            assert violation is None or call.failure.message.endswith(violation.message)
        self.open.clear()

    @precondition(lambda self: self.over)
    @rule()
    def ask_the_dead(self):
        with pytest.raises(NodeUnavailable):
            self.conversation._begin(Ping(), {}, None)
        assert self.sent == []

    @invariant()
    def exactly_the_open_calls_wait(self):
        assert self.conversation.waiting == len(self.open)


def test_a_call_ends_once_and_truthfully_whatever_the_node_sends():
    run_state_machine_as_test(
        ConversationMachine,
        settings=settings(derandomize=True, deadline=None, max_examples=60, stateful_step_count=25),
    )


@given(
    n_calls=st.integers(1, 4),
    replies=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 400), max_size=6),
)
def test_replies_in_whatever_chunks_are_settled_one_by_one(n_calls, replies, cuts):
    """A chunk may hold several frames, also two replies to one call; the second is nobody's answer."""
    node = spec(incarnation=5)
    conversation = Conversation(node, lambda outgoing: None, FrameLimits())
    ready = Ready(node_id=node.node_id, incarnation=5, runtime="r", steps={}, probes={})
    conversation.receive(b"".join(encode(0, 5, ready)))
    calls = {number + 1: conversation._begin(Ping(), {}, None) for number in range(n_calls)}
    ids = [1 + reply % n_calls for reply in replies]
    honest = next((k for k in range(len(ids)) if ids[k] in ids[:k]), len(ids))
    stream = b"".join(b"".join(encode(number, 5, PONG)) for number in ids)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)})
    refused = None
    for start, stop in pairwise([0, *places]):
        try:
            conversation.receive(stream[start:stop])
        except ProtocolViolation as violation:
            refused = violation
            break
    assert (refused is not None) == (honest < len(ids))
    answered = {number for number, call in calls.items() if call.answered.is_set()}
    assert answered == set(ids[:honest])
