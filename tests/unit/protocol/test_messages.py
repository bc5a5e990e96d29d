"""Every request has a reply, an example and a node that answers it; nothing lists messages a second time."""

import importlib
import inspect
import pkgutil
from typing import get_args

import numpy as np
import pytest

from flow_nexus_neural.errors import NodeFault
from flow_nexus_neural.protocol import messages
from flow_nexus_neural.protocol.arrays import rows_of
from flow_nexus_neural.protocol.codec import REQUEST_HEADERS, Decoder, FrameLimits, encode
from flow_nexus_neural.protocol.contract import AnsweredBy, NodeRecord
from flow_nexus_neural.protocol.messages import (
    Build,
    Built,
    Failed,
    GetWeights,
    Grant,
    Host,
    Ping,
    Pong,
    Predict,
    Ready,
    Reply,
    Revoke,
    ServiceRequest,
    TransportRequest,
)
from flow_nexus_neural.protocol.plan import Frozen
from tests.doubles.joined_node import granted_node
from tests.doubles.linear_service import LinearService, linear_plan
from tests.doubles.message_examples import EXAMPLES, LINK, LINK_BYTES

REQUESTS = {*get_args(TransportRequest), *get_args(ServiceRequest)}
REPLIES = set(get_args(get_args(Reply)[0]))
BY_KIND = pytest.mark.parametrize(
    ("request_", "arrays"), EXAMPLES, ids=[request.kind for request, _ in EXAMPLES]
)
DIGEST = "ab" * 32


def messages_of_the_package():
    modules = [
        importlib.import_module(f"{messages.__name__}.{module.name}")
        for module in pkgutil.iter_modules(messages.__path__)
    ]
    return {
        found
        for module in modules
        for _, found in inspect.getmembers(module, inspect.isclass)
        if found.__module__ == module.__name__
        and issubclass(found, Frozen)
        and "kind" in found.model_fields
        and not found.__pydantic_generic_metadata__["args"]  # AnsweredBy[...] itself is no message
    }


def test_every_message_class_is_on_the_wire_under_a_kind_of_its_own():
    assert messages_of_the_package() == REQUESTS | REPLIES
    for side in (REQUESTS, REPLIES):
        kinds = [message.model_fields["kind"].default for message in side]
        assert len(set(kinds)) == len(kinds)


def test_every_request_names_a_reply_and_every_reply_answers_something():
    assert {
        request for request in messages_of_the_package() if issubclass(request, AnsweredBy)
    } == (REQUESTS)
    assert {request.reply_class() for request in REQUESTS} == REPLIES - {Ready, Failed}


def test_a_request_that_names_no_reply_is_refused_by_name():
    class Mute(AnsweredBy):
        kind: str = "mute"

    with pytest.raises(TypeError, match="Mute does not name"):
        Mute.reply_class()


def test_a_request_derived_from_another_has_the_same_reply():
    class Politely(Ping):
        please: bool = True

    assert Politely.reply_class() is Pong


def test_every_request_has_an_example():
    assert [type(request) for request, _ in EXAMPLES] == [
        type(request) for request in {request.kind: request for request, _ in EXAMPLES}.values()
    ]
    assert {type(request) for request, _ in EXAMPLES} == REQUESTS


@BY_KIND
def test_every_request_survives_the_wire(request_, arrays):
    stream = b"".join(encode(4, 2, request_, arrays))
    (frame,) = Decoder(REQUEST_HEADERS, FrameLimits()).feed(stream)
    assert type(frame.message) is type(request_)
    assert (frame.call_id, frame.incarnation, frame.message) == (4, 2, request_)
    assert list(frame.arrays) == list(arrays)


@pytest.mark.anyio
async def test_every_request_is_answered_as_its_class_says():
    node, _ = await granted_node(LinearService())
    for request, arrays in EXAMPLES:
        if isinstance(request, Host):  # only a process that was started for that hosts another node
            with pytest.raises(NodeFault, match="no_host"):
                await node.call(request, arrays)
            continue
        reply, _ = await node.call(request, arrays)
        assert type(reply) is request.reply_class()


@pytest.mark.anyio
async def test_where_memory_is_not_shared_a_reply_fills_the_region_that_its_request_names():
    node, publish = await granted_node(LinearService())
    assert not publish.copy()["params"].any()
    for request, arrays in EXAMPLES:
        if request.kind in ("build", "train"):
            _, brought = await node.call(request, arrays)
            assert brought == {}
    assert publish.copy()["params"].any()


def test_until_a_build_is_answered_replies_may_follow_the_former_plan():
    node = NodeRecord()
    narrow = Build(network="net", plan=linear_plan(outputs=1), seed=1)
    wide = Build(network="net", plan=linear_plan(outputs=2), seed=1)
    built = Built(n_params=4, n_buffers=0, digest=DIGEST)

    def widths():
        shapes = {"x": (6, 3)}
        return [
            shape
            for specs in Predict(network="net").reply_arrays(node, shapes)
            for _, _, shape in specs
        ]

    assert widths() == []
    narrow.note_sent(node, arrays_in_frame=True)
    narrow.note_answered(node, built)
    wide.note_sent(node, arrays_in_frame=True)
    assert widths() == [(6, 1), (6, 2)]
    wide.note_answered(node, Failed(type="MemoryError", message="no"))
    assert widths() == [(6, 1)]
    wide.note_sent(node, arrays_in_frame=True)
    wide.note_answered(node, built)
    assert widths() == [(6, 2)]
    assert len(GetWeights(network="net").reply_arrays(node, {})) == 1


def test_only_a_writable_region_granted_in_a_frame_is_brought_by_replies():
    node = NodeRecord()
    writable = Grant(key="r", writable=True, nbytes=LINK_BYTES, arrays=LINK)
    for grant, arrays_in_frame in (
        (writable, False),
        (writable.model_copy(update={"writable": False}), True),
    ):
        grant.note_sent(node, arrays_in_frame=arrays_in_frame)
        assert node.carried == {}
    writable.note_sent(node, arrays_in_frame=True)
    assert node.carried == {"r": (("token", "i8", (1,)),)}
    Revoke(keys=("r", "unknown")).note_sent(node, arrays_in_frame=True)
    assert (node.carried, node.rows) == ({}, {})


def test_rows_are_the_first_axis_of_x():
    assert rows_of({"x": (3, 4), "y": (9,)}) == 3
    assert rows_of({"y": (9,)}) == rows_of({"x": ()}) == rows_of({}) == 0
    assert rows_of({"x": np.zeros((0, 3)).shape}) == 0
