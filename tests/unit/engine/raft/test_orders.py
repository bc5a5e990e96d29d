"""One voter that lies makes no version agreed on, and puts nothing into a log that nobody ordered."""

import json

import pytest

from flow_nexus_neural.coordination.consensus.raft.applied import body_digest, record
from flow_nexus_neural.engine.raft.gate import cannot_decide
from flow_nexus_neural.engine.raft.group import VoterGroup
from flow_nexus_neural.engine.raft.orders import NOTHING, Order, Orders
from flow_nexus_neural.errors import ConsensusUnavailable
from flow_nexus_neural.protocol.messages import RaftStepped
from flow_nexus_neural.protocol.messages.raft import Appended, Compacted, Proposed
from flow_nexus_neural.protocol.raft_records import (
    HardState,
    LogChange,
    LogEntry,
    Message,
    Records,
    Snapshot,
)
from tests.unit.engine.raft.test_weights import is_one_of, weights
from tests.unit.engine.raft.voting import commit, led_by, voting

ABC = ("worker-0", "worker-1", "worker-2")


def follower(w):
    return next(n for n in w.group.network.seats if n != led_by(w))


def let_lie(w, name, lie):
    """From now on a voter's answers are what `lie(records, report)` changes of them."""
    network = w.group.network
    honest = network._make_durable

    async def make_durable(answers, orders):
        if name in answers:
            update = lie(network.seats[name].records, answers[name])
            answers[name] = answers[name].model_copy(update=update)
        await honest(answers, orders)

    network._make_durable = make_durable


def nobody_acknowledges(w):
    w.group.network.passes = lambda m: m.kind != "append_reply"


def snapshot_of(state, index=10**6):
    def lie(records, report):
        made = Snapshot(index, records.hard.term, ABC, state)
        return {"snapshot": made, "log": LogChange(index, ())}

    return lie


def alone_with(body, me):
    """Its own log names itself as the only voter, and then has the record."""

    def lie(records, report):
        at, term = records.last_index, records.hard.term
        entries = (
            LogEntry(at + 1, term, "voters", voters=(me,)),
            LogEntry(at + 2, term, "record", body),
        )
        return {"log": LogChange(at, entries), "commit": at + 2}

    return lie


@pytest.mark.parametrize(
    "state", ['{"version": 999, "parent": 998, "digest": "x", "index": 1}', "garbage", "[]"]
)
async def test_a_snapshot_that_nobody_ordered_costs_the_seat_and_is_never_stored(tmp_path, state):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        liar = follower(w)
        let_lie(w, liar, snapshot_of(state))
        await commit(w, 2)
        await commit(w, 3)
        assert w.group.applied.version == 3
        assert "nobody ordered its snapshot up to 1000000" in w.slots[liar].last_error
        again = VoterGroup(w.cluster)
        await again.load()
        assert again.missing is None
        assert all(s.records.snapshot.index == 0 for s in again.network.seats.values())


async def test_a_snapshot_of_one_voter_decides_nothing(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        nobody_acknowledges(w)
        told = {"version": 2, "parent": 1, "digest": body_digest(record(2, 1, [])), "index": 50}
        let_lie(w, follower(w), snapshot_of(json.dumps(told), 50))
        with pytest.raises(ConsensusUnavailable):
            await commit(w, 2)
        assert w.group.applied.version == 1


async def test_a_configuration_in_the_log_of_one_voter_decides_nothing(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        liar = follower(w)
        nobody_acknowledges(w)
        let_lie(w, liar, alone_with(record(2, 1, []), liar))
        with pytest.raises(ConsensusUnavailable):
            await commit(w, 2)
        assert w.group.applied.version == 1
        assert "nobody ordered log entry" in w.slots[liar].last_error


async def test_where_orders_are_not_checked_that_configuration_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(Orders, "check", lambda *_: None)
    async with voting(tmp_path) as w:
        await commit(w, 1)
        liar = follower(w)
        nobody_acknowledges(w)
        let_lie(w, liar, alone_with(record(2, 1, []), liar))
        await w.group.commit(record(2, 1, []), {})
        assert w.group.applied.version == 2


async def test_who_says_that_all_is_committed_is_not_believed_while_most_lack_the_weights(tmp_path):
    async with voting(tmp_path, service=is_one_of({"worker-1", "worker-2"})) as w:
        await commit(w, 1)
        let_lie(w, follower(w), lambda records, report: {"commit": report.last})
        with pytest.raises(ConsensusUnavailable):
            await commit(w, 2, networks=weights())
        assert w.group.applied.version == 1


async def test_a_stored_snapshot_that_says_nothing_is_damage_and_predictions_go_on(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        store, seat = w.cluster.context.store, w.group.network.seats["worker-1"]
        last = seat.records.last_index
        bad = Records(seat.records.hard, Snapshot(last, seat.rank[0], ABC, "garbage"))
        await store.write_voters(w.cluster_id, {"worker-1": (bad, LogChange(last, ()))})
        again = VoterGroup(w.cluster)
        w.cluster.voters = again
        assert "cannot be read" in await cannot_decide(w.cluster)
        with pytest.raises(ConsensusUnavailable, match="cannot be read"):
            await again.commit(record(2, 1, []), {})
        assert again.network.seats == {}


def said(**changes):
    usual = {
        "hard": None,
        "snapshot": None,
        "log": None,
        "outbox": (),
        "term": 1,
        "role": "leader",
        "leader": "a",
        "commit": 0,
        "last": 0,
        "matched": {},
        "appended": None,
        "refused": None,
    }
    return RaftStepped(**usual | changes)


FIRST = LogEntry(1, 1, "record", "x")
KEPT = Records(HardState(1), Snapshot(voters=("a", "b")), (FIRST,))
TWO = {"a": KEPT, "b": Records(HardState(1), Snapshot(voters=("a", "b")))}


def adds(*entries, appended=None):
    place = None if appended is None else Appended(index=appended, term=1)
    return said(log=LogChange(entries[0].index - 1, entries), appended=place)


@pytest.mark.parametrize(
    ("name", "order", "report"),
    [
        ("b", NOTHING, adds(FIRST)),
        ("b", NOTHING, adds(LogEntry(1, 1))),
        (
            "a",
            Order(propose=Proposed(body="y")),
            adds(LogEntry(2, 1, "record", "y"), appended=2),
        ),
        (
            "a",
            Order(change=("b", "a", "c")),
            adds(LogEntry(2, 1, "voters", voters=("a", "b", "c")), appended=2),
        ),
        (
            "a",
            Order(compact=Compacted(index=1, state="s")),
            said(snapshot=Snapshot(1, 1, ("a", "b"), "s")),
        ),
    ],
)
def test_what_was_ordered_or_another_log_has_may_be_added(name, order, report):
    Orders().check(name, order, report, TWO)


@pytest.mark.parametrize(
    ("name", "order", "report"),
    [
        ("b", NOTHING, adds(LogEntry(1, 1, "record", "y"))),
        ("b", NOTHING, adds(LogEntry(1, 1, "noop", "y"))),
        ("b", NOTHING, adds(LogEntry(1, 2))),
        ("a", Order(propose=Proposed(body="y")), adds(LogEntry(2, 1, "record", "y"))),
        ("a", Order(propose=Proposed(body="y")), adds(LogEntry(2, 1, "record", "z"), appended=2)),
        (
            "a",
            Order(propose=Proposed(body="y")),
            adds(LogEntry(2, 1, "record", "y"), LogEntry(3, 1, "record", "y"), appended=2),
        ),
        (
            "a",
            Order(change=("a", "b", "c")),
            adds(LogEntry(2, 1, "voters", voters=("a",)), appended=2),
        ),
        (
            "a",
            Order(compact=Compacted(index=1, state="s")),
            said(snapshot=Snapshot(1, 1, ("a",), "s")),
        ),
        ("a", NOTHING, said(snapshot=Snapshot(1, 1, ("a", "b"), "s"))),
    ],
)
def test_what_nobody_ordered_may_not_be_added(name, order, report):
    with pytest.raises(ValueError, match=r"nobody ordered|is of term"):
        Orders().check(name, order, report, TWO)


def test_a_late_message_may_bring_what_no_log_has_any_more():
    orders, late = Orders(), adds(LogEntry(1, 1, "record", "gone"))
    with pytest.raises(ValueError, match="nobody ordered log entry 1"):
        orders.check("b", NOTHING, late, TWO)
    orders.note(late)
    orders.check("b", NOTHING, late, TWO)


def test_what_was_committed_leaves_no_log_again():
    orders, kept = Orders(), said(log=LogChange(0, (FIRST,)))
    replaced = said(hard=HardState(2), log=LogChange(0, (LogEntry(1, 2),)))
    gone = said(log=LogChange(0))
    for report in (kept, replaced, gone):
        orders.check("a", NOTHING, report, TWO)
    orders.note_committed(FIRST)
    orders.check("a", NOTHING, kept, TWO)
    for report in (replaced, gone):
        with pytest.raises(ValueError, match="log entry 1 was committed and is taken away"):
            orders.check("a", NOTHING, report, TWO)


def test_what_another_log_has_in_the_place_of_a_committed_entry_may_go():
    orders = Orders()
    orders.note_committed(LogEntry(1, 2))
    orders.check("a", NOTHING, said(hard=HardState(2), log=LogChange(0, (LogEntry(1, 2),))), TWO)


async def test_a_leader_that_lies_takes_no_committed_record_out_of_the_logs_of_others(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        network, liar = w.group.network, led_by(w)
        before = {n: s.records.entries for n, s in network.seats.items() if n != liar}
        seat = network.seats[liar]
        for name in before:  # as if it led a later term with an empty log
            other = network.seats[name]
            term = other.records.hard.term + 1
            made_up = Message("append", liar, name, term, entries=(LogEntry(1, term),))
            other.inbox.append(made_up)
        network.passes = lambda m: False
        await network.round(0)
        for name, entries in before.items():
            assert network.seats[name].records.entries == entries
            assert "was committed and is taken away" in w.slots[name].last_error
        assert seat.records.entries
        network.passes = lambda m: True
        await commit(w, 2)
        assert w.group.applied.version == 2
