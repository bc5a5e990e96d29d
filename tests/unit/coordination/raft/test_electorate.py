import pytest

from flow_nexus_neural.coordination.consensus.raft.electorate import (
    ROLES,
    Candidate,
    next_configuration,
    voters_of,
)


def slots(text, dead=()):
    """Candidates by a letter for the role and a number: `p0 v0 a0 w0`."""
    roles = {role[0]: role for role in ROLES}
    return [
        Candidate(f"{roles[name[0]]}-{name[1:]}", roles[name[0]], name not in dead)
        for name in text.split()
    ]


def names(text):
    return tuple(sorted(candidate.slot for candidate in slots(text)))


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ("w0", "w0"),
        ("w0 w1", "w0"),
        ("w0 w1 w2", "w0 w1 w2"),
        ("w0 w1 w2 w3", "w0 w1 w2"),
        ("w0 w1 w2 p0", "p0 w0 w1"),
        ("w0 w1 a0 v0 p0 p1", "p0 p1 v0 a0 w0"),
        ("w10 w2 w1", "w1 w2 w10"),
        ("p0 p1 v0 a0 a1 w0 w1", "p0 p1 v0 a0 a1"),
    ],
)
def test_the_largest_odd_number_up_to_five_votes_by_role_and_number(present, expected):
    assert voters_of(slots(present)) == names(expected)


def test_nobody_votes_where_nobody_is():
    assert voters_of([]) == ()


def test_a_dead_voter_stays_one_unless_somebody_can_take_its_place():
    present = names("p0 w0 w1")
    assert voters_of(slots("p0 w0 w1", dead=("w1",)), present) == present
    assert voters_of(slots("p0 w0 w1 w2", dead=("w1",)), present) == names("p0 w0 w2")
    assert voters_of(slots("p0 w0 w1 w2", dead=("p0",)), present) == names("w0 w1 w2")
    # A dead slot that never voted counts for nothing.
    assert voters_of(slots("p0 w0 w1 w2 w3", dead=("w3",)), present) == present


@pytest.mark.parametrize(
    ("now", "wanted", "living", "expected"),
    [
        ("w0 w1 w2", "w0 w1 w2", "w0 w1 w2", None),
        ("w0 w1 w2", "w0 w1 w3", "w0 w1 w3", "w0 w1"),  # the dead one first
        ("w0 w1 w2", "w0 w1 w3", "w0 w1 w2 w3", "w0 w1 w2 w3"),  # its successor first
        ("w0 w1 w2 w3", "w0 w1 w3", "w0 w1 w2 w3", "w0 w1 w3"),
        ("w0 w1 w2", "w0", "w0 w1", "w0 w1"),
        ("w0 w1", "w0", "w0 w1", "w0"),
    ],
)
def test_voters_change_one_at_a_time(now, wanted, living, expected):
    following = next_configuration(names(now), names(wanted), names(living))
    assert following == (None if expected is None else names(expected))


def test_every_way_ends_at_the_voters_that_are_wanted():
    everybody = names("w0 w1 w2 w3 w4 p0")
    for wanted in ("w0", "p0 w0 w1", "p0 w1 w2 w3 w4"):
        now, steps = names("w0 w1 w2"), 0
        while (following := next_configuration(now, names(wanted), everybody)) is not None:
            assert len(set(now) ^ set(following)) == 1
            now, steps = following, steps + 1
            assert steps < 10
        assert now == names(wanted)
