import pytest

from flow_nexus_neural.coordination.consensus.raft.beginning import beginning, is_abandoned
from flow_nexus_neural.coordination.consensus.raft.voter import RaftVoter
from flow_nexus_neural.protocol.raft_records import HardState, LogEntry, Records, Snapshot

FORMER = {
    "a": Records(
        HardState(7, "b"), Snapshot(3, 2, ("a", "b"), "s"), (LogEntry(4, 5), LogEntry(5, 5))
    ),
    "b": Records(HardState(6, "b"), Snapshot(voters=("a", "b"))),
}


@pytest.mark.parametrize(
    ("voters", "slots", "abandoned"),
    [
        (("a",), ("a", "b"), False),
        (("a",), ("b",), True),
        (("a", "b", "c"), ("a", "b"), False),
        (("a", "b", "c"), ("a", "d"), True),
        ((), ("a",), False),
    ],
)
def test_voters_are_abandoned_when_no_majority_of_them_can_come_back(voters, slots, abandoned):
    assert is_abandoned(voters, slots) is abandoned


def test_the_first_voters_begin_with_an_empty_log():
    assert beginning(("b", "a"), {}, "") == dict.fromkeys(
        ("a", "b"), Records(snapshot=Snapshot(voters=("a", "b")))
    )


def test_a_new_beginning_comes_after_every_former_term_and_entry_and_keeps_votes():
    begun = beginning(("a", "c"), FORMER, "state")
    snapshot = Snapshot(6, 7, ("a", "c"), "state")
    assert begun == {
        "a": Records(HardState(7, "b"), snapshot),
        "c": Records(HardState(7), snapshot),
    }


def test_a_former_log_wins_no_vote_against_a_new_beginning():
    new = RaftVoter("c", beginning(("c", "d"), FORMER, "")["c"], seed=1)
    old = RaftVoter("a", FORMER["a"], seed=1)
    for _ in range(100):
        old.tick(50)
        for message in old.take_output().outbox:
            new.receive(message)
    assert not any(message.granted for message in new.take_output().outbox)
