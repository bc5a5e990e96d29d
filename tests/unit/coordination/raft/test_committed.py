import pytest

from flow_nexus_neural.coordination.consensus.raft.committed import committed_up_to, has
from flow_nexus_neural.protocol.raft_records import HardState, LogEntry, Records, Snapshot

ABC = ("a", "b", "c")


def log(*terms, hard=None, voters=None):
    """A log of entries of these terms; `voters` gives the configurations by index."""
    named = voters or {}
    entries = tuple(
        LogEntry(at, term, "voters" if at in named else "record", voters=named.get(at, ()))
        for at, term in enumerate(terms, 1)
    )
    return Records(HardState(hard or max(terms, default=0)), Snapshot(voters=ABC), entries)


def up_to(durable, of="a", said=99, configuration=ABC, holds=lambda name, entry: True):
    return committed_up_to(durable[of], said, 0, configuration, durable, holds)


def test_an_entry_is_there_if_it_is_in_the_log_or_was_compacted():
    records = Records(snapshot=Snapshot(2, 1), entries=(LogEntry(3, 4),))
    assert has(records, LogEntry(1, 1))
    assert has(records, LogEntry(3, 4))
    assert not has(records, LogEntry(3, 2))
    assert not has(records, LogEntry(4, 4))


def test_a_majority_of_logs_commits_and_one_does_not():
    assert up_to({"a": log(1, 1), "b": log(1), "c": log()}) == 1


def test_no_more_is_committed_than_the_voter_says():
    assert up_to({"a": log(1, 1), "b": log(1, 1), "c": log()}, said=1) == 1


def test_an_entry_of_an_earlier_term_is_committed_only_by_one_of_the_term_that_is():
    """Figure 8 of the paper: a majority has entry 2 of term 2, and a log of term 3 may still replace it."""
    logs = {"a": log(1, 2, hard=4), "b": log(1, 2, hard=4), "c": log(1, 3)}
    assert up_to(logs) == 0
    assert up_to(logs | {"a": log(1, 2, 4), "b": log(1, 2, 4)}) == 3


def test_a_configuration_is_decided_by_a_majority_of_its_own_voters():
    grown = {3: ("a", "b", "c", "d")}
    logs = {
        "a": log(1, 1, 1, voters=grown),
        "b": log(1, 1, 1, voters=grown),
        "c": log(),
        "d": log(),
    }
    assert up_to(logs) == 2
    assert up_to(logs | {"d": log(1, 1, 1, voters=grown)}) == 3


def test_a_voter_that_does_not_hold_what_an_entry_needs_does_not_count():
    logs = {"a": log(1, 1), "b": log(1, 1), "c": log()}
    assert up_to(logs, holds=lambda name, entry: (name, entry.index) != ("b", 2)) == 1


@pytest.mark.parametrize("configuration", [(), ("nobody",)])
def test_voters_without_records_commit_nothing(configuration):
    assert up_to({"a": log(1)}, configuration=configuration) == 0
