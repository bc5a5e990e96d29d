import pytest

from flow_nexus_neural.coordination.quorum import (
    Quorum,
    RobustQuorum,
    liars_tolerated,
    prediction_quorum,
    robust_quorum,
    round_quorum,
)
from flow_nexus_neural.errors import InvalidRequest


@pytest.mark.parametrize(
    ("expected", "needed"), [(0, 1), (1, 1), (2, 2), (4, 4), (5, 4), (6, 5), (10, 8), (11, 9)]
)
def test_a_prediction_needs_four_fifths_of_its_slots(expected, needed):
    assert prediction_quorum(expected, 0).needed == needed


def test_a_quorum_is_met_from_the_needed_number_on():
    assert not prediction_quorum(6, 4).met
    assert prediction_quorum(6, 5).met
    assert prediction_quorum(6, 6) == Quorum(needed=5, got=6)


@pytest.mark.parametrize(
    ("expected", "f", "needed"),
    [(0, 0, 1), (1, 0, 1), (3, 0, 1), (4, 1, 3), (6, 1, 3), (7, 2, 5), (11, 3, 7), (31, 10, 21)],
)
def test_honest_answers_outvote_fewer_than_a_third_of_liars(expected, f, needed):
    quorum = robust_quorum(expected, needed)
    assert quorum == RobustQuorum(needed=needed, got=needed, f=f)
    assert quorum.met
    assert not robust_quorum(expected, needed - 1).met
    assert liars_tolerated(expected) == f
    assert expected - f >= needed or expected == 0, "liars could withhold every decision"


@pytest.mark.parametrize(
    ("selected", "minimum", "needed"),
    [(1, 1, 1), (2, 1, 2), (3, 1, 2), (3, 3, 3), (6, 1, 4), (5, 1, 4)],
)
def test_a_round_needs_two_thirds_or_the_minimum(selected, minimum, needed):
    assert round_quorum(selected, minimum) == needed


@pytest.mark.parametrize(("selected", "minimum"), [(3, 0), (3, 4), (0, 1)])
def test_a_minimum_that_cannot_be_met_is_refused(selected, minimum):
    with pytest.raises(InvalidRequest) as refusal:
        round_quorum(selected, minimum)
    assert str(minimum) in refusal.value.message
