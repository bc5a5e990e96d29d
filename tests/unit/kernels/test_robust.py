from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from flow_nexus_neural.errors import InvalidRequest, QuorumLost
from flow_nexus_neural.kernels import geometry_rules as geometry
from flow_nexus_neural.kernels.gram import centred_gram, guarded, squared_distances, weighted_sum
from flow_nexus_neural.kernels.robust import (
    adaptive_clipping,
    aggregate,
    auto_rule,
    centred_clipping,
    nearest_to_trusted,
)

REFERENCE = Path(__file__).parents[2] / "reference"
GOLDEN = np.load(REFERENCE / "byzfl_golden.npz")
VECTORS = list(GOLDEN["vectors"])
HONEST = GOLDEN["honest"]
GEOMETRY = ["krum", "multi_krum", "geometric_median", "mda", "smea", "caf"]
COORDINATE = ["median", "trimmed_mean", "meamed"]
RULES = [*GEOMETRY, *COORDINATE]


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("mean", "Average"),
        ("median", "Median"),
        ("trimmed_mean", "TrMean"),
        ("meamed", "Meamed"),
        ("krum", "Krum"),
        ("multi_krum", "MultiKrum"),
        ("mda", "MDA"),
        ("geometric_median", "GeometricMedian_T100"),
        ("smea", "SMEA_seed0"),
    ],
)
def test_deterministic_rules_equal_those_of_a_published_library(rule, name):
    found = aggregate(VECTORS, rule, 2).vector
    assert found.dtype == np.float32
    assert np.allclose(found, GOLDEN[f"agg_{name}"], rtol=1e-5, atol=2e-6)


def test_the_filter_is_near_the_randomised_one_of_a_published_library():
    expected = GOLDEN["agg_CAF_seed0"]
    error = np.linalg.norm(aggregate(VECTORS, "caf", 2).vector - expected)
    assert error < 1e-3 * np.linalg.norm(expected)


def test_trusted_neighbours_and_both_clippings_equal_those_of_a_published_library():
    close = {"rtol": 1e-5, "atol": 2e-6}
    assert np.allclose(nearest_to_trusted(VECTORS, 2, 0).vector, GOLDEN["agg_MoNNA"], **close)
    assert np.allclose(centred_clipping(VECTORS, 10.0), GOLDEN["agg_CenteredClipping"], **close)
    clipped = GOLDEN["vectors"] * adaptive_clipping(VECTORS, 2)[:, None]
    assert np.allclose(clipped, GOLDEN["pre_ARC"], **close)
    mixing = geometry.nearest_neighbour_mixing(centred_gram(guarded(VECTORS)), 2)
    assert np.allclose(mixing @ GOLDEN["vectors"], GOLDEN["pre_NNM"], **close)


def slow_filter(x, f):
    """The filter on the vectors themselves, in float64, by singular values."""
    n = len(x)
    active, best, answer = np.ones(n), np.inf, x.mean(axis=0)
    while active.sum() > n - 2 * f:
        p = active / active.sum()
        mean = p @ x
        _, singular, directions = np.linalg.svd(
            np.sqrt(p)[:, None] * (x - mean), full_matrices=False
        )
        if singular[0] ** 2 < best:
            best, answer = singular[0] ** 2, mean
        spread = ((x - mean) @ directions[0]) ** 2
        active = active * np.maximum(0, 1 - spread / spread[active > 0].max())
    return answer


@pytest.mark.parametrize("f", [1, 2, 3, 5])
def test_the_filter_equals_a_slow_one_in_float64(f):
    expected = slow_filter(GOLDEN["vectors"].astype(np.float64), f)
    found = aggregate(VECTORS, "caf", f).vector
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_the_filter_equals_a_slow_one_on_rows_that_spread_alike(seed):
    x = np.random.default_rng(seed).normal(size=(7, 9)).astype(np.float32)
    expected = slow_filter(x.astype(np.float64), 2)
    assert np.allclose(aggregate(list(x), "caf", 2).vector, expected, atol=1e-5)


def test_the_filter_ends_on_an_input_on_which_a_naive_one_does_not(monkeypatch):
    rows = list(np.load(REFERENCE / "caf_loop_input.npz")["vectors"])
    steps = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: steps.append(1) or eigh(matrix))
    for f in (2, 5):
        steps.clear()
        assert np.isfinite(aggregate(rows, "caf", f).vector).all()
        assert 1 <= len(steps) <= 2 * f + 1


@pytest.mark.parametrize("rule", ["mda", "smea"])
def test_subset_rules_find_the_best_subset(rule):
    x = np.random.default_rng(4).normal(size=(7, 20)).astype(np.float32)

    def score(subset):
        rows = x[list(subset)].astype(np.float64)
        if rule == "smea":
            return np.linalg.norm(rows - rows.mean(axis=0), ord=2)
        return max(np.linalg.norm(a - b) for a, b in combinations(rows, 2))

    best = min(combinations(range(7), 5), key=score)
    weights = aggregate(list(x), rule, 2).weights
    assert tuple(np.flatnonzero(weights)) == best
    assert weights[list(best)] == pytest.approx([0.2] * 5)


def test_a_rule_over_too_many_subsets_is_refused_by_name():
    x = list(np.eye(24, dtype=np.float32))
    with pytest.raises(InvalidRequest, match="20000"):
        aggregate(x, "mda", 7)


def test_krum_picks_the_row_in_the_crowd_by_hand():
    x = [np.array([v], dtype=np.float32) for v in (0.0, 1.0, 1.5, 2.5, 100.0)]
    # f = 1: three nearest others. Sums of squares: 0: 1 + 2.25 + 6.25; 1: 1 + .25 + 2.25; ...
    assert aggregate(x, "krum", 1).weights.tolist() == [0, 1, 0, 0, 0]
    assert aggregate(x, "multi_krum", 1).vector == pytest.approx([1.25])


def test_the_geometric_median_of_a_line_is_its_middle():
    x = [np.array([v, 0.0], dtype=np.float32) for v in (0.0, 1.0, 7.0)]
    assert aggregate(x, "geometric_median", 0).vector == pytest.approx([1.0, 0.0], abs=1e-3)


def test_coordinate_rules_by_hand():
    x = [np.array([v, -v], dtype=np.float32) for v in (5.0, 1.0, 2.0, 100.0)]
    assert aggregate(x, "median", 1).vector.tolist() == [3.5, -3.5]
    assert aggregate(x, "trimmed_mean", 1).vector.tolist() == [3.5, -3.5]
    # The three nearest to 3.5 are 5, 1 and 2.
    assert aggregate(x, "meamed", 1).vector == pytest.approx([8 / 3, -8 / 3])
    assert aggregate(x, "median", 1).weights is None


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mix", [False, True])
@pytest.mark.parametrize("size", [1e3, 1e9, 1e30])
def test_liars_of_any_size_move_the_answer_no_further_than_the_honest_spread(rule, mix, size):
    liars = [np.full(1000, size, dtype=np.float32), np.full(1000, -size, dtype=np.float32)]
    honest = list(HONEST.astype(np.float32))
    found = aggregate([*liars, *honest], rule, 2, mix=mix)
    middle = HONEST.mean(axis=0)
    spread = np.linalg.norm(HONEST - middle, axis=1).max()
    assert np.linalg.norm(found.vector - middle) <= spread
    assert found.shortened == (0, 1)


def test_the_mean_is_carried_away_by_the_same_liars():
    """The control: an attack that does not bite proves nothing."""
    liars = [np.full(1000, 1e9, dtype=np.float32)] * 2
    found = aggregate([*liars, *HONEST.astype(np.float32)], "mean", 2)
    middle = HONEST.mean(axis=0)
    assert np.linalg.norm(found.vector - middle) > np.linalg.norm(HONEST - middle, axis=1).max()


def test_without_the_norm_guard_huge_liars_decide_what_is_near():
    liars = [np.full(1000, 1e9, dtype=np.float32)] * 2
    vectors = [*liars, *HONEST.astype(np.float32)]
    exact = squared_distances(centred_gram(guarded([*HONEST.astype(np.float32)])))

    def error(rows):
        return np.abs(squared_distances(centred_gram(rows))[2:, 2:] - exact).max() / exact.max()

    assert error(guarded(vectors)) < 1e-3
    assert error(guarded(vectors, limit_norms=False)) > 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rule", RULES)
def test_rows_that_are_not_finite_are_left_out(rule, bad):
    broken = HONEST[0].astype(np.float32)
    broken[500] = bad
    found = aggregate([broken, *HONEST.astype(np.float32)], rule, 2)
    assert found.dropped == (0,)
    assert np.array_equal(found.vector, aggregate(list(HONEST.astype(np.float32)), rule, 2).vector)
    if found.weights is not None:
        assert found.weights[0] == 0
        assert found.weights.sum() == pytest.approx(1.0)


def test_too_few_finite_rows_are_an_error_that_counts_them():
    vectors = [np.full(3, np.nan, dtype=np.float32)] + [np.ones(3, dtype=np.float32)] * 4
    with pytest.raises(QuorumLost, match="4 finite updates cannot outvote 2"):
        aggregate(vectors, "median", 2)
    with pytest.raises(QuorumLost, match="trusted"):
        nearest_to_trusted([*vectors, vectors[1]], 2, 0)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mix", [False, True])
def test_equal_rows_come_out_as_they_went_in(rule, mix):
    row = np.random.default_rng(1).normal(size=50).astype(np.float32)
    found = aggregate([row] * 7, rule, 2, mix=mix).vector
    assert np.allclose(found, row, rtol=1e-6)
    zeros = aggregate([np.zeros(5, dtype=np.float32)] * 7, rule, 2, mix=mix).vector
    assert zeros.tolist() == [0.0] * 5


@pytest.mark.parametrize("rule", RULES)
def test_with_nobody_to_fear_a_single_row_is_the_answer(rule):
    row = np.array([1.0, -2.0], dtype=np.float32)
    assert aggregate([row], rule, 0).vector == pytest.approx(row)


@pytest.mark.parametrize("rule", GEOMETRY)
@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_weights_do_not_depend_on_the_unit(rule, unit):
    found = aggregate([v * np.float32(unit) for v in VECTORS], rule, 2).weights
    assert np.allclose(found, aggregate(VECTORS, rule, 2).weights, atol=1e-4)


def test_many_columns_are_read_in_blocks_that_change_nothing():
    x = np.random.default_rng(2).normal(size=(5, 200_003)).astype(np.float32)
    assert np.allclose(aggregate(list(x), "median", 1).vector, np.median(x, axis=0))
    gram = centred_gram(guarded(list(x)))
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    assert np.allclose(gram, centred @ centred.T, rtol=1e-5, atol=1.0)
    weights = np.array([0.1, 0.2, 0.3, 0.4, 0.0])
    assert np.allclose(weighted_sum(guarded(list(x)), weights), weights @ x, atol=1e-6)


def test_the_inputs_are_never_changed():
    before = [v.copy() for v in VECTORS]
    for rule in RULES:
        aggregate(VECTORS, rule, 2, mix=True)
    assert all(np.array_equal(a, b) for a, b in zip(before, VECTORS, strict=True))


def test_the_rule_follows_from_the_number_of_workers():
    assert [auto_rule(n) for n in (1, 2, 3, 4, 5, 7, 11)] == [
        ("mean", 0),
        ("mean", 0),
        ("median", 1),
        ("trimmed_mean", 1),
        ("caf", 1),
        ("caf", 2),
        ("caf", 3),
    ]


@pytest.mark.parametrize("vectors", [[], [np.ones(2), np.ones(3)], [np.ones((2, 2))]])
def test_shapes_that_do_not_match_are_refused(vectors):
    with pytest.raises(ValueError, match="shape"):
        aggregate(vectors, "median", 0)
    with pytest.raises(ValueError, match="negative"):
        aggregate([np.ones(2, dtype=np.float32)], "median", -1)


def test_a_huge_row_does_not_make_short_rows_vanish():
    # Along one line, by hand: z = 0.8, then 0.8 - 0.8 * 3 / 5 + 0.8 = 1.12, then 1.248.
    rows = [np.full(4, size, dtype=np.float32) for size in (0, 0, 0, 11, 2e23)]
    moved = centred_clipping(rows, tau=2.0, steps=3)
    assert np.linalg.norm(moved) == pytest.approx(1.248, rel=1e-5)
    gram = centred_gram(guarded([row[:2] for row in rows], limit_norms=False))
    assert np.isfinite(gram).all()
    assert gram[3, 0] == pytest.approx(2 * (4e22 - 11) * 4e22, rel=1e-5)
