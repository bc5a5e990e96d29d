"""What a step changed is durable before its messages leave; what is lost starts anew from the records."""

import pytest

from flow_nexus_neural.engine.raft.network import TICK_MS, VoterNetwork
from flow_nexus_neural.engine.raft.orders import Order
from flow_nexus_neural.errors import StoreUnavailable
from flow_nexus_neural.protocol.messages import Failed
from flow_nexus_neural.protocol.messages.raft import Proposed
from flow_nexus_neural.protocol.raft_records import LogChange, LogEntry, Records, Snapshot
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.doubles.linear_service import LinearService
from tests.unit.engine.raft.voting import commit, voting

NAMES = ("worker-0", "worker-1", "worker-2")


async def seated(w):
    """Voters that have never done a step."""
    for name in NAMES:
        await w.group.network.open_seat(name, Records(snapshot=Snapshot(voters=NAMES)))
    return w.group.network


async def stored(w):
    return await w.engine.context.store.voters(w.cluster_id)


async def until_asked(network):
    """Let time pass until somebody asks for votes; nothing has been delivered yet."""
    for _ in range(60):
        await network.round(TICK_MS)
        if not network.is_quiet:
            return
    raise AssertionError("nobody asks for votes")


async def test_what_is_said_is_durable_before_it_is_delivered(tmp_path):
    async with voting(tmp_path) as w:
        network = await seated(w)
        seen = []

        def watch(message):
            seat = network.seats[message.sender]
            seen.append((message.kind, message.term, seat.records.hard))
            return True

        network.passes = watch
        for _ in range(60):
            await network.round(TICK_MS)
            on_disk = await stored(w)
            assert {n: s.records for n, s in network.seats.items()} == dict(on_disk)
            for seat in network.seats.values():
                assert seat.report.term == seat.records.hard.term
        votes = [(term, hard) for kind, term, hard in seen if kind == "vote"]
        assert votes
        assert all(hard.term == term for term, hard in votes)
        assert network.leader() is not None


async def test_nothing_is_delivered_of_a_round_that_could_not_be_written(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        network = w.group.network
        leader = network.leader()
        before, delivered = dict(await stored(w)), []
        network.passes = lambda message: delivered.append(message) or True
        order = {leader.name: Order(propose=Proposed(body="lost"))}
        with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
            await network.round(0, order)
        assert delivered == []
        assert dict(await stored(w)) == before
        assert network.leader() is None  # every voter begins again from what is durable
        await commit(w, 2)
        bodies = {e.body for s in network.seats.values() for e in s.records.entries}
        assert "lost" not in bodies


async def test_a_voter_that_does_not_answer_begins_again_from_its_records(tmp_path):
    class Silent(LinearService):
        broken = False

        def on_raft_step(self, request, arrays, poll):
            reply, sent = super().on_raft_step(request, arrays, poll)
            return (Failed(type="OSError", message="no"), {}) if self.broken else (reply, sent)

    services = []

    def make(spec):
        services.append(Silent())
        return services[-1]

    async with voting(tmp_path, service=make) as w:
        await commit(w, 1)
        network = w.group.network
        leader = network.leader()
        service = services[int(leader.name[-1])]
        service.broken = True
        await network.round(0, {leader.name: Order(propose=Proposed(body="not durable"))})
        assert network.leader() is None
        assert leader.in_step_with is None
        service.broken = False
        await network.round(0)
        assert leader.in_step_with == w.slots[leader.name].node_id
        assert (leader.report.role, leader.report.last) == ("follower", leader.records.last_index)


async def test_a_step_that_contradicts_the_records_is_left_out_and_told(tmp_path):
    class Liar(LinearService):
        def on_raft_step(self, request, arrays, poll):
            reply, sent = super().on_raft_step(request, arrays, poll)
            if request.voter == "worker-1" and request.restore is None:
                gap = LogChange(99, (LogEntry(100, 0),))
                reply = reply.model_copy(update={"log": gap})
            return reply, sent

    async with voting(tmp_path, service=lambda spec: Liar()) as w:
        await commit(w, 1)
        assert w.group.network.seats["worker-1"].records.last_index < 99
        assert "raft: log entry 100 stands in place" in w.slots["worker-1"].last_error


async def test_messages_are_delivered_only_where_the_network_lets_them(tmp_path):
    async with voting(tmp_path) as w:
        network = await seated(w)
        network.passes = lambda message: False
        for _ in range(80):
            await network.round(TICK_MS)
        assert network.leader() is None
        assert network.is_quiet
        assert all(seat.records.hard.term == 0 for seat in network.seats.values())


async def test_time_passes_only_when_a_round_says_so(tmp_path):
    async with voting(tmp_path) as w:
        network = await seated(w)
        for _ in range(100):
            await network.round(0)
        assert all(seat.report.role == "follower" for seat in network.seats.values())


async def test_a_network_without_voters_has_nobody(tmp_path):
    async with voting(tmp_path) as w:
        network = VoterNetwork(w.cluster)
        assert (network.voters(), network.living(), network.leader()) == ((), [], None)
        await network.round(TICK_MS)
        assert network.slot("nobody") is None
