import pytest

from flow_nexus_neural.engine.raft.seat import MAX_TEXT, MAX_WAITING, Seat
from flow_nexus_neural.protocol.messages import RaftStepped
from flow_nexus_neural.protocol.messages.raft import MAX_MESSAGES
from flow_nexus_neural.protocol.raft_records import (
    HardState,
    LogChange,
    LogEntry,
    Message,
    Records,
    Snapshot,
)

STORED = Records(HardState(4, "a"), Snapshot(2, 1, ("a", "b", "c")), (LogEntry(3, 4),))


def said(**more):
    fields = {"hard": None, "snapshot": None, "log": None, "outbox": (), "term": 4}
    fields |= {"role": "follower", "leader": None, "commit": 2, "last": 3, "matched": {}}
    return RaftStepped(**fields | {"appended": None, "refused": None} | more)


def test_what_a_step_changes_continues_what_is_durable():
    seat = Seat("a", STORED)
    assert seat.changed(said()) is None
    log = LogChange(3, (LogEntry(4, 4),))
    records, change = seat.changed(said(hard=HardState(5, None), log=log))
    assert (records.hard, records.last_index, change) == (HardState(5, None), 4, log)
    assert seat.records is STORED  # until it is written


@pytest.mark.parametrize(
    "lie",
    [
        {"hard": HardState(3, "b")},
        {"hard": HardState(4, "b")},
        {"hard": HardState(4, None)},
        {"log": LogChange(9, (LogEntry(10, 4),))},
        {"log": LogChange(3, (LogEntry(5, 4),))},
        {"snapshot": Snapshot(1, 1, (), "")},
    ],
)
def test_a_step_that_does_not_continue_it_is_refused(lie):
    with pytest.raises(ValueError, match=r"term|place|older"):
        Seat("a", STORED).changed(said(**lie))


def test_logs_are_compared_by_their_last_term_and_then_by_their_length():
    shorter = Seat("b", Records(entries=(LogEntry(1, 9),)))
    assert shorter.rank > Seat("a", STORED).rank > Seat("c", Records(snapshot=STORED.snapshot)).rank


def test_messages_wait_in_order_and_those_that_are_too_many_are_lost():
    seat = Seat("a", STORED)
    for index in range(MAX_WAITING + 3):
        seat.inbox.append(Message("append", "b", "a", 4, index=index))
    taken = seat.take_inbox()
    assert [message.index for message in taken] == list(range(3, 3 + MAX_MESSAGES))
    seat.lose()
    assert seat.take_inbox() == ()


def test_no_more_text_arrives_at_once_than_fits_into_a_frame():
    seat, long = Seat("a", STORED), LogEntry(4, 4, "record", "x" * (MAX_TEXT // 3))
    for _ in range(8):
        seat.inbox.append(Message("append", "b", "a", 4, entries=(long,)))
    assert [len(seat.take_inbox()) for _ in range(4)] == [3, 3, 2, 0]
    seat.inbox.append(Message("append", "b", "a", 4, entries=(long,) * 9))
    assert len(seat.take_inbox()) == 1


def test_weights_are_held_by_one_process_only_and_until_others_take_their_place():
    seat = Seat("a", STORED)
    seat.note_granted("node_1", "region 1")
    seat.note_held("one", "region 1")
    seat.note_granted("node_1", "region 2")
    seat.note_held("two", "region 2")
    assert seat.holds("node_1", frozenset({"one", "two"}))
    assert not seat.holds("node_2", frozenset({"one"}))
    assert seat.take_superseded(frozenset({"two"})) == ["region 1"]
    assert not seat.holds("node_1", frozenset({"one"}))
    seat.note_granted("node_2", "region 3")
    seat.note_held("two", "region 3")
    assert seat.take_superseded(frozenset()) == ["region 3"]


def test_a_voter_leads_as_long_as_it_last_said_so():
    seat = Seat("a", STORED)
    assert not seat.leads
    seat.report = said(role="leader")
    assert seat.leads
    seat.lose()
    assert not seat.leads


def test_a_region_in_which_no_weights_are_held_is_taken_back():
    seat = Seat("a", STORED)
    seat.note_granted("node_1", "region 1")
    seat.note_held("one", "region 1")
    seat.note_granted("node_1", "region 2")
    assert seat.take_superseded(frozenset({"one"})) == ["region 2"]
    assert seat.take_superseded(frozenset({"one"})) == []
    assert seat.take_superseded(frozenset()) == ["region 1"]
