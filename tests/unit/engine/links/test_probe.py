"""Trying a link: what was read, how long it took, and what a node's word for it is worth."""

import pytest

from flow_nexus_neural.engine.links.grants import LinkGrants
from flow_nexus_neural.engine.links.probe import READS, Announced, LinkProbe
from flow_nexus_neural.protocol.messages import Observed
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
from tests.unit.engine.links.linked_nodes import nodes
from tests.unit.engine.links.test_grants import equip

pytestmark = pytest.mark.anyio

PING_S = 0.25


class Reading(LinearService):
    """Says that each read took so many milliseconds."""

    read_ms = 0.0

    def on_observe(self, request, arrays, poll):
        reply, _ = super().on_observe(request, arrays, poll)
        told = {"read_ms": self.read_ms}
        return Observed(sights=tuple(s and s.model_copy(update=told) for s in reply.sights)), {}


class Boasting(Reading):
    read_ms = 1e12


async def to_try(of, grants, reader="worker-0"):
    changes = await equip(of, grants)
    return next(grants.to_try(change) for change in changes if change.reader == reader)


async def test_a_link_works_when_the_announced_token_is_read():
    async with nodes(3, service=lambda of: Reading()) as of:
        of.share_views()
        grants = LinkGrants(of.context, of.calls)
        announced = await to_try(of, grants)
        before = of.metrics.bytes_by_category["sync"]
        trials = await LinkProbe(of.context, of.calls).read(of.slots["worker-0"], announced)
        assert [(trial.latency_ms, trial.fault) for trial in trials] == [(0.0, None)] * 2
        read = READS * sum(one.nbytes for one in announced)
        assert of.metrics.bytes_by_category["sync"] - before > read > 0
        grants.close()


async def test_a_wrong_token_and_a_view_that_is_not_held_are_faults_of_that_link_only():
    async with nodes(3) as of:
        grants = LinkGrants(of.context, of.calls)
        first, second = await to_try(of, grants)
        wrong = Announced(first.slot, first.key, first.token + 1, first.nbytes)
        unknown = Announced("worker-9", "link:none", 1, 8)
        probe = LinkProbe(of.context, of.calls)
        trials = await probe.read(of.slots["worker-0"], [wrong, unknown, second])
        assert [trial.fault for trial in trials] == [
            f"worker-0 does not read what {first.slot} was told to announce",
            "worker-0 does not hold its view of worker-9",
            None,
        ]
        assert await probe.read(of.slots["worker-0"], []) == []
        grants.close()


async def test_a_time_that_cannot_be_true_is_no_latency_but_a_relayed_way_is_timed_by_the_engine():
    async with nodes(2, service=lambda of: Boasting()) as of:
        grants = LinkGrants(of.context, of.calls)
        announced = await to_try(of, grants)
        probe = LinkProbe(of.context, of.calls)
        (relayed,) = await probe.read(of.slots["worker-0"], announced)
        assert (relayed.latency_ms, relayed.fault) == (0.0, None)  # no virtual time passed
        of.share_views()
        (direct,) = await probe.read(of.slots["worker-0"], announced)
        assert (direct.latency_ms, direct.fault) == (None, None)
        grants.close()


async def test_a_node_that_does_not_answer_fails_all_its_links_at_its_deadline():
    faults = FaultPlan().ignore("worker-0", "observe")
    async with nodes(3, faults=faults, link_s=2.0) as of:
        of.share_views()
        grants = LinkGrants(of.context, of.calls)
        announced = await to_try(of, grants)
        began_s = of.context.clock()
        trials = await LinkProbe(of.context, of.calls).read(of.slots["worker-0"], announced)
        assert of.context.clock() - began_s == pytest.approx(2.0)
        assert [trial.latency_ms for trial in trials] == [None, None]
        assert all(trial.fault for trial in trials)
        grants.close()


async def test_a_round_trip_to_the_engine_is_the_median_of_several():
    faults = FaultPlan()
    for nth in (1, 2, 3):
        faults.slow("worker-0", "ping", delay_s=PING_S * nth, nth=nth)
    async with nodes(1, faults=faults) as of:
        trial = await LinkProbe(of.context, of.calls).ping(of.slots["worker-0"])
        assert (trial.latency_ms, trial.fault) == (pytest.approx(PING_S * 1e3), None)


async def test_a_ping_without_an_answer_is_a_fault_without_a_latency():
    async with nodes(1, faults=FaultPlan().ignore("worker-0", "ping", nth=2)) as of:
        trial = await LinkProbe(of.context, of.calls).ping(of.slots["worker-0"])
        assert trial.latency_ms is None
        assert trial.fault
