"""A message that no module has heard of works through both ends of the wire: its class says all they need."""

from typing import Literal

import numpy as np
import pytest
from pydantic import TypeAdapter

from flow_nexus_neural.errors import NodeFault, ProtocolViolation
from flow_nexus_neural.protocol.arrays import Name, rows_of
from flow_nexus_neural.protocol.codec import Header
from flow_nexus_neural.protocol.contract import AnsweredBy
from flow_nexus_neural.protocol.messages import Done, Failed, Outputs, Pong, Request
from flow_nexus_neural.runtime.connection.memory import CarriedBuffer, view_of
from tests.doubles.joined_node import JoinedNode

pytestmark = pytest.mark.anyio


class Double(AnsweredBy[Outputs]):
    """Send twice the column that goes with it."""

    kind: Literal["double"] = "double"

    def reply_arrays(self, node, shapes):
        return ((("y", "f4", (rows_of(shapes), 1)),),)

    def fault_of(self, reply):
        return None if reply.digest is None else "nobody asked for a digest"


class Stamp(AnsweredBy[Done]):
    """Write a number into a region."""

    kind: Literal["stamp"] = "stamp"
    into: Name
    number: int

    def region_filled(self):
        return self.into


class Glance(AnsweredBy[Done]):
    """Look at a region that a neighbour writes."""

    kind: Literal["glance"] = "glance"
    at: Name

    def regions_observed(self):
        return (self.at,)


HEADERS = TypeAdapter(Header[Request | Double | Stamp | Glance])
X = np.arange(3, dtype="f4").reshape(3, 1)


class NewService:
    """Answers the new messages, by whatever `reply` says instead where it is set."""

    def __init__(self, reply=None):
        self.regions = {}
        self.reply = reply
        self.seen = []

    def attach(self, key, arrays, *, writable):
        self.regions[key] = arrays

    def detach(self, keys):
        pass

    def handle(self, request, arrays, poll):
        if self.reply is not None:
            return self.reply
        match request:
            case Double():
                return Outputs(digest=None), {"y": 2 * arrays["x"]}
            case Stamp():
                self.regions[request.into]["stamp"][0] = request.number
                return Done(), {}
            case Glance():
                self.seen.append(int(self.regions[request.at]["stamp"][0]))
                return Done(), {}


def node_of(service):
    return JoinedNode(service, HEADERS)


async def test_its_reply_comes_with_the_arrays_that_its_class_promises():
    reply, arrays = await node_of(NewService()).call(Double(), {"x": X})
    assert reply == Outputs(digest=None)
    assert arrays["y"].tolist() == (2 * X).tolist()


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ((Outputs(digest=None), {"y": X[:2]}), "brings arrays"),
        ((Outputs(digest=None), {}), "brings arrays"),
        ((Outputs(digest="ab" * 32), {"y": X}), "contradicts its request: nobody asked"),
        ((Pong(busy=None, steps_done=0, longest_step_ms=0.0), {}), "Outputs is awaited"),
        ((Failed(type="t", message="m"), {"y": X}), "a failure came with 1 arrays"),
    ],
)
async def test_any_other_reply_is_a_violation(reply, why):
    with pytest.raises(ProtocolViolation, match=why):
        await node_of(NewService(reply)).call(Double(), {"x": X})


async def test_a_longer_body_than_its_class_promises_is_refused_by_its_length():
    longer = Outputs(digest=None), {"y": np.ones((4, 1), "f4")}
    with pytest.raises(ProtocolViolation, match="16 body bytes"):
        await node_of(NewService(longer)).call(Double(), {"x": X})


async def test_its_failure_is_a_fault_of_the_node():
    failing = Failed(type="ValueError", message="no"), {}
    with pytest.raises(NodeFault, match="ValueError: no"):
        await node_of(NewService(failing)).call(Double(), {"x": X})


async def test_its_reply_fills_the_region_that_its_class_names():
    node = node_of(NewService())
    buffer = CarriedBuffer("pad", [("stamp", "i8", (1,))])
    await node.grant(buffer)
    reply, arrays = await node.call(Stamp(into="pad", number=5))
    assert (reply, arrays) == (Done(), {})
    assert buffer.copy()["stamp"].tolist() == [5]


async def test_what_it_observes_is_brought_up_to_date_before_it_is_sent():
    service = NewService()
    node = node_of(service)
    buffer = CarriedBuffer("pad", [("stamp", "i8", (1,))])
    await node.grant(view_of(buffer))
    for number in (3, 4):
        buffer.store({"stamp": np.array([number], "i8")})
        await node.call(Glance(at="pad"))
    assert service.seen == [3, 4]
