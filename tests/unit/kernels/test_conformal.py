"""Sets and intervals hold the truth as often as they promise, and never by a rounding of the rank."""

from fractions import Fraction

import numpy as np
import pytest

from flow_nexus_neural.kernels.conformal import (
    KEPT,
    LEVEL,
    AdaptiveLevel,
    ConformalScores,
    after_outcome,
    class_scores,
    conformal_rank,
    prediction_sets,
    share_covered,
)


def draw(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.mark.parametrize(
    ("n", "level", "rank"),
    [
        (9, LEVEL, 9),  # (9 + 1) * 9 / 10 is 9 exactly
        (8, LEVEL, None),  # the ninth of eight
        (0, LEVEL, None),
        (19, LEVEL, 18),
        (10, LEVEL, 10),  # 9.9, up
        (99, LEVEL, 90),
        (999, LEVEL, 900),
        # (99 + 1) * .29 is 28.999999999999996 in floating point, and (n + 1) * .57 57.00000000000001.
        (99, Fraction(29, 100), 29),
        (99, Fraction(57, 100), 57),
        # Here .9 as a float is above nine tenths, by enough to move the rank.
        (10**17 - 1, LEVEL, 9 * 10**16),
    ],
)
def test_the_rank_is_the_ceiling_in_integers(n, level, rank):
    assert conformal_rank(n, level) == rank


@pytest.mark.parametrize("level", [Fraction(0), Fraction(1), Fraction(-1, 2), Fraction(3, 2)])
def test_a_level_outside_the_unit_interval_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        conformal_rank(20, level)


def test_the_threshold_is_the_score_of_that_rank():
    scores = ConformalScores.of(np.array([9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]))
    assert scores.threshold() == 9.0
    assert scores.threshold(Fraction(1, 2)) == 5.0
    assert ConformalScores.of(np.arange(8.0)).threshold() is None


def test_rows_that_cannot_be_scored_give_nothing():
    assert ConformalScores.of(np.zeros(0)) is None
    assert ConformalScores.of(np.array([1.0, np.nan])) is None


def test_of_many_scores_few_are_kept_and_none_of_their_thresholds_is_too_small():
    values = draw(1).standard_normal(5_003)
    scores = ConformalScores.of(values)
    assert len(scores.ranks) <= KEPT + 1
    ranked = np.sort(values)
    assert scores.threshold() == ranked[conformal_rank(5_003) - 1]
    for level in (Fraction(1, 1000), Fraction(1, 3), Fraction(77, 100), Fraction(999, 1000)):
        rank = conformal_rank(5_003, level)
        next_kept = ranked[min(rank + 79, 5_003) - 1]
        assert ranked[rank - 1] <= scores.threshold(level) <= next_kept


P = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.3, 0.3, 0.4]])


def test_a_class_as_probable_as_demanded_is_in_the_set():
    assert class_scores(P, np.array([0, 1, 2])).tolist() == [-0.7, -0.35, -0.4]
    sets = prediction_sets(P, -0.3)
    assert sets.tolist() == [[True, False, False], [True, True, False], [True, True, True]]


def test_a_set_that_would_be_empty_holds_the_decided_class():
    assert not prediction_sets(P, -0.5)[1].any()
    sets = prediction_sets(P, -0.5, np.array([0, 1, -1]))
    assert sets.tolist() == [[True, False, False], [False, True, False], [False, False, False]]


def test_the_share_covered_is_counted():
    sets = prediction_sets(P, -0.3)
    assert share_covered(sets, np.array([0, 2, 2])) == pytest.approx(2 / 3)
    assert share_covered(sets[:0], np.zeros(0, np.int64)) is None


def test_intervals_and_sets_cover_what_they_promise_on_fresh_draws():
    draws, covered, in_set = draw(3), 0, 0
    for _ in range(400):
        residuals = np.abs(draws.standard_t(3, size=100))
        covered += residuals[99] <= ConformalScores.of(residuals[:99]).threshold()
        p = draws.dirichlet(np.ones(4), size=100)
        labels = np.array([draws.choice(4, p=row) for row in p])
        threshold = ConformalScores.of(class_scores(p[:99], labels[:99])).threshold()
        in_set += prediction_sets(p[99:], threshold)[0, labels[99]]
    # Binomial(400, .9) lies in 336..381 with probability 99.9 %: rank 90 of 99 covers exactly nine tenths.
    assert 336 <= covered <= 381
    assert 336 <= in_set <= 381


def test_ties_cover_more_and_never_less():
    scores = ConformalScores.of(np.repeat([1.0, 2.0], 50))
    assert scores.threshold() == 2.0
    assert scores.threshold(Fraction(1, 4)) == 1.0


def test_the_level_moves_by_the_published_steps():
    hit, miss = (after_outcome(AdaptiveLevel(), covered=held) for held in (True, False))
    # alpha + gamma (alpha* - miss) with alpha* = .1 and gamma = .005
    assert hit.level == 1 - Fraction(1005, 10000)
    assert miss.level == 1 - Fraction(955, 10000)
    assert (miss.answers, miss.covered, hit.covered) == (1, 0, 1)


def test_after_many_misses_only_everything_would_do_and_a_hit_brings_the_level_back():
    state = AdaptiveLevel()
    for _ in range(40):
        state = after_outcome(state, covered=False)
    assert state.level is None
    for _ in range(10):
        state = after_outcome(state, covered=True)
    assert state.level == 1 - Fraction(1, 2000)
    for _ in range(3_000):
        state = after_outcome(state, covered=True)
    assert 0 < state.level <= Fraction(1, 2000)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_in_the_long_run_nine_of_ten_hold_although_errors_grow(factor):
    draws, state = draw(5), AdaptiveLevel()
    scores = ConformalScores.of(np.abs(draws.standard_normal(500)))
    fixed = 0
    for t in range(4_000):
        error = abs(draws.standard_normal()) * (factor if t > 1_000 else 1.0)
        half = None if state.level is None else scores.threshold(state.level)
        state = after_outcome(state, covered=half is None or error <= half)
        fixed += error <= scores.threshold()
    # Proposition 4.1: within (.9 + .005) / (.005 T) of nine tenths, whatever the errors are.
    assert abs(state.covered / state.answers - 0.9) <= 0.905 / (0.005 * 4_000)
    if factor > 1:  # an interval that does not adapt breaks its promise
        assert fixed / 4_000 < 0.7


def test_a_level_beyond_every_kept_rank_has_no_threshold():
    assert ConformalScores(2**70, (1, 2), (0.1, 0.2)).threshold() is None
