"""When answers are counted against a node, and when it is enough."""

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_nexus_neural.coordination.conduct import (
    MAX_IN_A_ROW,
    MAX_OF_CALLERS,
    Conduct,
    after,
    told,
    verdict,
)

ANSWERS = st.lists(
    st.tuples(st.sampled_from(["right", "refused", "unanswered"]), st.booleans()), max_size=40
)


def seen(answers):
    return reduce(lambda c, a: after(c, a[0], from_caller=a[1]), answers, Conduct())


@given(st.lists(st.tuples(st.just("right"), st.booleans())))
def test_a_node_that_answers_right_is_trusted_however_often(answers):
    assert seen(answers) == Conduct()
    assert verdict(seen(answers)) == "trusted"


@pytest.mark.parametrize("bad", ["refused", "unanswered"])
def test_one_answer_makes_suspect_and_the_third_in_a_row_is_the_end(bad):
    course = [verdict(seen([(bad, n == 0)] * n)) for n in range(MAX_IN_A_ROW + 1)]
    assert course == ["trusted", "suspect", "suspect", "ended"]


def test_a_right_answer_to_the_engine_restores_trust_and_not_the_credit_with_callers():
    course = [("refused", True), ("right", False)]
    assert verdict(seen(course * (MAX_OF_CALLERS - 1))) == "trusted"
    assert verdict(seen(course * (MAX_OF_CALLERS - 1) + course[:1])) == "ended"
    kept = course * (MAX_OF_CALLERS - 1) + [("right", True)]
    assert verdict(seen(kept + course)) == "trusted"


@given(ANSWERS)
def test_the_totals_are_exact_and_the_verdict_follows_from_the_rows_alone(answers):
    conduct = seen(answers)
    kinds = [answer for answer, _ in answers]
    assert conduct.refused == kinds.count("refused")
    assert conduct.unanswered == kinds.count("unanswered")
    assert 0 <= conduct.in_a_row <= conduct.refused + conduct.unanswered
    ended = conduct.in_a_row >= MAX_IN_A_ROW or conduct.of_callers >= MAX_OF_CALLERS
    assert (verdict(conduct) == "ended") == ended
    if answers and kinds[-1] == "right" and not ended:
        assert verdict(conduct) == "trusted"


def test_the_counts_are_told_in_words():
    assert told(Conduct(refused=3, unanswered=1)) == "predictions: 3 refused, 1 not answered"
    assert told(Conduct()) == "predictions: none refused"
