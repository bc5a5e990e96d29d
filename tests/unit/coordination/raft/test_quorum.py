import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_nexus_neural.coordination.consensus.raft.quorum import (
    EVERYTHING,
    committed_index,
    joint_committed_index,
    joint_vote_result,
    majority,
    vote_result,
)
from tests.unit.coordination.raft.quorum_cases import (
    JOINT_COMMIT,
    JOINT_VOTE,
    MAJORITY_COMMIT,
    MAJORITY_VOTE,
)

VOTERS = st.lists(st.sampled_from("abcdefg"), max_size=9)
INDEXES = st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 9))
VOTES = st.dictionaries(st.sampled_from("abcdefg"), st.booleans())


def numbers(text):
    return {name: int(value) for name, value in (pair.split("=") for pair in text.split())}


def votes(text):
    return {name: value == "yes" for name, value in (pair.split("=") for pair in text.split())}


def test_all_cases_are_there():
    tables = (MAJORITY_COMMIT, JOINT_COMMIT, MAJORITY_VOTE, JOINT_VOTE)
    assert [len(table) for table in tables] == [16, 50, 22, 39]


@pytest.mark.parametrize(("voters", "matched", "expected"), MAJORITY_COMMIT)
def test_a_majority_commits_as_in_etcd(voters, matched, expected):
    assert committed_index(voters.split(), numbers(matched)) == expected
    repeated = [*voters.split(), *voters.split()]
    assert committed_index(repeated, numbers(matched)) == expected


@pytest.mark.parametrize(("incoming", "outgoing", "matched", "expected"), JOINT_COMMIT)
def test_a_joint_configuration_commits_as_in_etcd(incoming, outgoing, matched, expected):
    found = numbers(matched)
    assert joint_committed_index(incoming.split(), outgoing.split(), found) == expected
    assert joint_committed_index(outgoing.split(), incoming.split(), found) == expected


@pytest.mark.parametrize(("voters", "cast", "expected"), MAJORITY_VOTE)
def test_a_majority_votes_as_in_etcd(voters, cast, expected):
    assert vote_result(voters.split(), votes(cast)) == expected
    assert vote_result([*voters.split(), *voters.split()], votes(cast)) == expected


@pytest.mark.parametrize(("incoming", "outgoing", "cast", "expected"), JOINT_VOTE)
def test_a_joint_configuration_votes_as_in_etcd(incoming, outgoing, cast, expected):
    assert joint_vote_result(incoming.split(), outgoing.split(), votes(cast)) == expected
    assert joint_vote_result(outgoing.split(), incoming.split(), votes(cast)) == expected


@given(voters=VOTERS, matched=INDEXES)
def test_what_is_committed_is_the_largest_index_that_a_majority_reached(voters, matched):
    reached = [
        index
        for index in range(11)
        if sum(matched.get(name, 0) >= index for name in set(voters)) >= majority(voters)
    ]
    expected = EVERYTHING if not voters else max(reached)
    assert committed_index(voters, matched) == expected


@given(voters=VOTERS, cast=VOTES)
def test_a_vote_is_decided_when_no_further_voter_can_change_it(voters, cast):
    open_ = [name for name in set(voters) if name not in cast]
    with_all = vote_result(voters, {**cast, **dict.fromkeys(open_, True)})
    with_none = vote_result(voters, {**cast, **dict.fromkeys(open_, False)})
    expected = with_all if with_all == with_none else "pending"
    assert vote_result(voters, cast) == expected
