"""The node's end answers every frame, and only for its own incarnation."""

import numpy as np
import pytest

from flow_nexus_neural.protocol.codec import (
    REPLY_HEADERS,
    Decoder,
    Frame,
    FrameLimits,
    Unreadable,
    arrange,
)
from flow_nexus_neural.protocol.dispatch import Responder
from flow_nexus_neural.protocol.messages import (
    Build,
    Cancel,
    Done,
    Failed,
    GetWeights,
    Grant,
    Ping,
    Revoke,
    Shutdown,
)
from tests.doubles.linear_service import LinearService, linear_plan

LAYOUT, NBYTES = arrange([("x", "f4", (2,))])
REGION = {"x": np.array([1, 2], "f4")}


def never():
    return False


class Bench:
    """A responder on a table: requests in, replies out."""

    def __init__(self, limits=None):
        self.service = LinearService()
        self.responder = Responder(self.service, 3, limits)
        self.opened = lambda grant: REGION

    def ask(self, request, arrays=None, incarnation=3):
        return self.answer(Frame(8, incarnation, request, arrays or {}))

    def answer(self, frame):
        reply = self.responder.answer(frame, never, self.opened)
        (decoded,) = Decoder(REPLY_HEADERS, FrameLimits()).feed(b"".join(reply))
        assert (decoded.call_id, decoded.incarnation) == (8, 3)
        return decoded.message


@pytest.fixture
def bench():
    return Bench()


@pytest.mark.parametrize("request_", [Ping(), Shutdown(), Cancel(), Revoke(keys=("shard",))])
def test_another_incarnation_is_fenced_and_changes_nothing(bench, request_):
    bench.service.attach("shard", REGION, writable=False)
    reply = bench.ask(request_, incarnation=2)
    assert isinstance(reply, Failed)
    assert reply.type == "fenced"
    assert not bench.responder.closing
    assert not bench.responder.cancelled
    assert "shard" in bench.service.regions


def test_what_cannot_be_read_is_answered_as_such(bench):
    reply = bench.answer(Unreadable(8, 3, "msg: no such kind"))
    assert (reply.type, reply.message) == ("unreadable", "msg: no such kind")


def test_a_grant_opens_the_region_or_takes_what_the_frame_carries(bench):
    grant = Grant(key="shard", writable=False, nbytes=NBYTES, arrays=LAYOUT)
    assert bench.ask(grant) == Done()
    assert bench.service.regions["shard"] is REGION
    assert bench.ask(grant, {"x": np.array([3, 4], "f4")}) == Done()
    held = bench.service.regions["shard"]["x"]
    assert held.tolist() == [3, 4]
    assert not held.flags.writeable


def test_a_region_that_differs_from_its_grant_is_refused(bench):
    grant = Grant(key="shard", writable=False, nbytes=NBYTES, arrays=LAYOUT)
    reply = bench.ask(grant, {"x": np.zeros(3, "f4")})
    assert reply.type == "ValueError"
    assert bench.service.regions == {}


@pytest.mark.parametrize("error", [OSError, ValueError, MemoryError])
def test_a_region_that_cannot_be_opened_is_a_failure_of_the_grant(bench, error):
    def fail(grant):
        raise error("no")

    bench.opened = fail
    reply = bench.ask(Grant(key="shard", writable=False, nbytes=NBYTES, arrays=LAYOUT))
    assert reply.type == error.__name__
    assert bench.service.regions == {}


def test_a_reply_that_the_engine_would_refuse_becomes_a_failure():
    bench = Bench(FrameLimits(body_bytes=16))
    assert bench.ask(Build(network="n", plan=linear_plan(features=9), seed=1)).kind == "built"
    reply = bench.ask(GetWeights(network="n"))
    assert reply.type == "LimitExceeded"


def test_shutdown_is_answered_before_the_end(bench):
    assert bench.ask(Shutdown()) == Done()
    assert bench.responder.closing
