import pytest

from flow_nexus_neural.coordination.consensus.raft.log import BATCH_CHARACTERS, RaftLog
from flow_nexus_neural.protocol.raft_records import LogChange, LogEntry, Records, Snapshot


def entries(*terms, first=1):
    return tuple(LogEntry(index, term) for index, term in enumerate(terms, first))


NOTHING = Snapshot()


def log_of(*terms, snapshot=NOTHING):
    return RaftLog(Records(snapshot=snapshot, entries=entries(*terms, first=snapshot.index + 1)))


def terms(log):
    return [log.term_at(index) for index in range(log.snapshot.index + 1, log.last_index + 1)]


def test_a_late_or_repeated_message_takes_nothing_away():
    log = log_of(1, 1, 2)
    log.merge(entries(1))
    log.merge(entries(1, 1))
    assert terms(log) == [1, 1, 2]
    assert log.take_changes() == (None, None)


def test_a_log_is_replaced_from_the_first_entry_with_another_term():
    log = log_of(1, 1, 2, 2)
    log.merge(entries(1, 3, first=2))
    assert terms(log) == [1, 1, 3]
    assert log.take_changes() == (None, LogChange(2, entries(3, first=3)))
    assert log.take_changes() == (None, None)


def test_changes_lead_from_the_records_before_to_the_log_as_it_is():
    records = Records(entries=entries(1, 1, 2, 2))
    log = RaftLog(records)
    log.compact(2, "state")
    log.merge(entries(3, 3, first=4))
    log.append(LogEntry(6, 4))
    snapshot, change = log.take_changes()
    after = records.after(None, snapshot, change)
    assert after.snapshot == Snapshot(2, 1, (), "state")
    assert after.entries == entries(2, 3, 3, 4, first=3)


def test_a_snapshot_of_the_leader_keeps_what_continues_it_and_nothing_else():
    snapshot = Snapshot(2, 1, ("a",), "state")
    log = log_of(1, 1, 2)
    log.install(snapshot)
    assert terms(log) == [2]
    other = log_of(1, 9, 9)
    other.install(snapshot)
    assert terms(other) == []
    records = Records(entries=entries(1, 9, 9)).after(None, *other.take_changes())
    assert records == Records(snapshot=snapshot)


def test_the_last_configuration_is_in_force_until_it_is_replaced():
    log = log_of(1, snapshot=Snapshot(voters=("a",)))
    log.append(LogEntry(2, 1, "voters", voters=("a", "b")))
    assert (log.voters, log.configured_at) == (("a", "b"), 2)
    log.append(LogEntry(3, 1))
    log.compact(2, "")
    assert (log.voters, log.configured_at) == (("a", "b"), 2)
    log.append(LogEntry(4, 1, "voters", voters=("b",)))
    log.truncate_after(3)
    assert log.voters == ("a", "b")
    log.compact(1, "")
    assert log.snapshot.index == 2
    with pytest.raises(ValueError, match="no entry 9"):
        log.compact(9, "")


def test_a_batch_is_limited_in_text_and_in_number_but_has_one_entry_at_least():
    log = log_of()
    for index in range(1, 5):
        log.append(LogEntry(index, 1, "record", "x" * (BATCH_CHARACTERS // 2)))
    assert [entry.index for entry in log.batch(1, 9)] == [1, 2]
    assert [entry.index for entry in log.batch(2, 1)] == [2]
    log.append(LogEntry(5, 1, "record", "x" * (BATCH_CHARACTERS + 1)))
    assert [entry.index for entry in log.batch(5, 9)] == [5]
    assert log.batch(6, 9) == ()


def test_the_end_of_the_log_is_compared_with_what_a_leader_has():
    log = log_of(1, 1, 4, 4, snapshot=Snapshot(3, 1))
    assert log.last_not_above(7, 3) == 5
    assert log.last_not_above(99, 9) == 7
    assert log.last_not_above(7, 0) == 3
    assert log.matches(2, 7)  # before the snapshot everything was committed
    assert log.matches(3, 1)
    assert not log.matches(3, 2)
    assert not log.matches(8, 4)
    assert log.entry(3) is None
    assert (log.last_index, log.last_term) == (7, 4)
    assert log_of(snapshot=Snapshot(3, 2)).last_term == 2
