import math
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from flow_nexus_neural.kernels.averaging import averaged_step, federated_average
from flow_nexus_neural.kernels.calibration import (
    fit_platt,
    fit_temperature,
    gated,
    log_loss,
)
from flow_nexus_neural.kernels.conformal import ConformalScores
from flow_nexus_neural.kernels.decision import TIE, DecisionRule
from flow_nexus_neural.kernels.ensemble import TargetScale, fuse
from flow_nexus_neural.kernels.loss_weights import loss_weights
from flow_nexus_neural.kernels.metrics import (
    area_under_curve,
    classification,
    regression,
    wilson_interval,
)
from flow_nexus_neural.kernels.probabilities import class_log_probabilities
from flow_nexus_neural.vocabulary import THRESHOLD

lean = settings(max_examples=100, derandomize=True, deadline=None)

floats32 = st.floats(-1e6, 1e6, width=32)
logits = st.floats(-1e30, 1e30)
AGGREGATIONS = st.sampled_from(["mean", "majority", "weighted", "ensemble"])


@st.composite
def contributions(draw):
    n, d = draw(st.integers(1, 6)), draw(st.integers(0, 8))
    vectors = [draw(nps.arrays(np.float32, d, elements=floats32)) for _ in range(n)]
    rows = draw(st.lists(st.integers(0, 10_000), min_size=n, max_size=n).filter(any))
    return vectors, rows


@st.composite
def answers(draw, task=None, elements=logits):
    task = draw(st.sampled_from(["binary", "multiclass", "regression"])) if task is None else task
    width = draw(st.integers(2, 4)) if task == "multiclass" else 1
    width += task == "multiclass" and width == 2
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 4)), width)
    given_logits = draw(nps.arrays(np.float64, shape, elements=elements))
    weights = draw(st.lists(st.floats(0.01, 10), min_size=shape[0], max_size=shape[0]))
    return task, given_logits, np.array(weights)


@lean
@given(contributions())
def test_an_average_lies_between_the_values_that_count(case):
    vectors, rows = case
    counting = np.array([v for v, n in zip(vectors, rows, strict=True) if n > 0])
    average = federated_average(vectors, rows)
    assert (average >= counting.min(axis=0)).all()
    assert (average <= counting.max(axis=0)).all()


@lean
@given(contributions(), st.integers(1, 9))
def test_only_the_shares_of_the_rows_matter(case, factor):
    vectors, rows = case
    scaled = federated_average(vectors, [factor * count for count in rows])
    assert np.allclose(federated_average(vectors, rows), scaled, rtol=1e-6, atol=1e-9)


@lean
@given(contributions(), st.randoms(use_true_random=False))
def test_another_order_moves_an_average_by_rounding_only(case, shuffler):
    vectors, rows = case
    pairs = list(zip(vectors, rows, strict=True))
    shuffler.shuffle(pairs)
    other = federated_average([v for v, _ in pairs], [n for _, n in pairs])
    assert np.allclose(federated_average(vectors, rows), other, rtol=1e-6, atol=1e-7)


@lean
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**6)), min_size=1, max_size=6))
def test_an_averaged_step_is_the_nearest_integer_to_the_mean(pairs):
    steps, rows = [s for s, _ in pairs], [n for _, n in pairs]
    exact_twice = 2 * sum(s * n for s, n in pairs)
    step = averaged_step(steps, rows)
    assert min(steps) <= step <= max(steps)
    assert abs(2 * step * sum(rows) - exact_twice) <= sum(rows)


@lean
@given(answers(), AGGREGATIONS)
def test_every_fused_number_is_finite_and_in_its_range(case, aggregation):
    task, given_logits, weights = case
    fused = fuse(aggregation, given_logits, weights, task)
    assert np.isfinite(fused.values).all()
    for share in (fused.consensus, fused.node_agreement):
        assert ((share >= 1e-6) & (share <= 1.0)).all()
    if task != "regression":
        assert np.allclose(fused.probabilities.sum(axis=1), 1.0)
        assert ((fused.probabilities >= 0) & (fused.probabilities <= 1)).all()
        assert (fused.decisions < fused.probabilities.shape[1]).all()
    if task == "binary":
        assert ((fused.values >= 1e-6) & (fused.values <= 1 - 1e-6)).all()
        if aggregation != "majority":
            assert ((fused.values >= 0.5) == (fused.decisions == 1)).all()


@lean
@given(answers("binary"), AGGREGATIONS, st.floats(THRESHOLD.low, THRESHOLD.high))
def test_at_any_threshold_combination_votes_and_consensus_follow_from_the_numbers_shown(
    case, aggregation, threshold
):
    task, given_logits, weights = case
    fused = fuse(aggregation, given_logits, weights, task, rule=DecisionRule(threshold))
    votes = fused.node_values >= threshold - TIE
    assert (votes == (fused.node_decisions == 1)).all()
    if aggregation != "majority":
        assert ((fused.values >= threshold - TIE) == (fused.decisions == 1)).all()
    share = votes.mean(axis=0)
    if aggregation == "majority":
        assert (fused.decisions[share > 0.5] == 1).all()
        assert (fused.decisions[share < 0.5] == 0).all()
    agreeing = weights @ (fused.node_decisions == fused.decisions) / weights.sum()
    assert np.allclose(fused.consensus, np.clip(agreeing, 1e-6, 1))


@lean
@given(answers(elements=st.floats(-20, 20)), AGGREGATIONS, st.randoms(use_true_random=False))
def test_the_order_of_the_slots_does_not_matter(case, aggregation, shuffler):
    task, given_logits, weights = case
    order = list(range(len(weights)))
    shuffler.shuffle(order)
    one = fuse(aggregation, given_logits, weights, task)
    other = fuse(aggregation, given_logits[order], weights[order], task)
    assert np.allclose(one.values, other.values, atol=1e-9)
    assert np.allclose(one.node_agreement, other.node_agreement, atol=1e-9)


@lean
@given(answers(task="binary", elements=st.floats(-20, 20)), AGGREGATIONS, st.floats(0.001, 1000))
def test_weights_have_no_unit(case, aggregation, unit):
    task, given_logits, weights = case
    one = fuse(aggregation, given_logits, weights, task, expected_weight=2 * weights.sum())
    other = fuse(
        aggregation, given_logits, unit * weights, task, expected_weight=2 * unit * weights.sum()
    )
    assert np.allclose(one.values, other.values)
    clear = np.abs(one.values - 0.5) > 1e-9  # on a tie rounding may decide
    assert np.allclose(one.consensus[clear], other.consensus[clear])


@lean
@given(answers(elements=st.floats(-10, 10)), AGGREGATIONS, st.integers(2, 5))
def test_slots_that_say_the_same_agree_completely(case, aggregation, copies):
    task, given_logits, _ = case
    same = np.repeat(given_logits[:1], copies, axis=0)
    fused = fuse(aggregation, same, np.ones(copies), task)
    assert np.allclose(fused.node_agreement, 1.0)
    assert (fused.consensus == 1.0).all()
    if task != "regression" and aggregation != "majority":
        assert np.allclose(
            fused.probabilities, np.exp(class_log_probabilities(given_logits[0])), atol=1e-5
        )


@lean
@given(answers(task="regression", elements=st.floats(-100, 100)), AGGREGATIONS)
def test_a_fused_value_lies_between_the_slots_values(case, aggregation):
    _, given_logits, weights = case
    scale = TargetScale(mean=3.0, sd=2.0, tau=0.1)
    fused = fuse(aggregation, given_logits, weights, "regression", scale=scale)
    assert (fused.values >= fused.node_values.min(axis=0) - 1e-9).all()
    assert (fused.values <= fused.node_values.max(axis=0) + 1e-9).all()


@lean
@given(st.lists(st.none() | st.floats(0, 1e6) | st.just(math.inf), min_size=1, max_size=12))
def test_loss_weights_share_out_one_and_never_favour_a_worse_slot(losses):
    weights = loss_weights(losses)
    assert math.isclose(weights.sum(), 1.0)
    assert (weights > 0).all()
    known = [(loss, w) for loss, w in zip(losses, weights, strict=True) if loss is not None]
    for loss, weight in known:
        for other_loss, other_weight in known:
            if loss < other_loss:
                assert weight >= other_weight


@lean
@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=30))
def test_the_area_is_the_share_of_pairs_in_order(pairs):
    scores = np.array([float(score) for score, _ in pairs])
    y = np.array([int(label) for _, label in pairs])
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0 for a in scores[y == 1] for b in scores[y == 0]
    ]
    area = area_under_curve(scores, y)
    assert area is None if not wins else math.isclose(area, sum(wins) / len(wins))


@lean
@given(st.integers(1, 10_000), st.data())
def test_an_interval_contains_its_proportion(n, data):
    successes = data.draw(st.integers(0, n))
    low, high = wilson_interval(successes, n)
    assert 0.0 <= low <= successes / n <= high <= 1.0 or math.isclose(high, 1.0)


@lean
@given(
    nps.arrays(np.float64, st.tuples(st.integers(0, 20), st.just(3)), elements=logits),
    st.data(),
)
def test_metrics_of_any_logits_are_finite_or_none(given_logits, data):
    n = len(given_logits)
    y = data.draw(nps.arrays(np.int64, n, elements=st.integers(0, 2)))
    measured = classification(given_logits, y, n_classes=3)
    for name in ("loss", "accuracy", "balanced_accuracy", "brier", "ece"):
        value = getattr(measured, name)
        assert value is None or (math.isfinite(value) and value >= 0)
    assert sum(map(sum, measured.confusion or [])) == n


@lean
@given(
    nps.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e3, 1e3)), st.floats(0.1, 10)
)
def test_errors_scale_with_the_unit_of_the_target(values, sd):
    y = values[::-1].copy()
    one, other = regression(values, y), regression(values, y, sd=sd)
    assert math.isclose(other.rmse, sd * one.rmse, abs_tol=1e-12)
    assert math.isclose(other.mae, sd * one.mae, abs_tol=1e-12)
    assert other.loss == one.loss
    assert other.r2 == one.r2


@settings(max_examples=50, derandomize=True, deadline=None)
@given(
    nps.arrays(np.float64, st.tuples(st.integers(2, 60), st.just(1)), elements=logits),
    st.integers(0, 2**31),
)
def test_fits_on_any_logits_end_finite_and_do_not_raise_the_loss(given_logits, seed):
    y = np.random.default_rng(seed).integers(0, 2, size=len(given_logits))
    for fit in (fit_temperature, fit_platt):
        calibrator = fit(given_logits, y)
        assert 0 < calibrator.scale <= 100
        assert math.isfinite(calibrator.offset)
    before = log_loss(given_logits, y)
    assert log_loss(fit_temperature(given_logits, y).apply(given_logits), y) <= before * (1 + 1e-9)
    assert gated(fit_platt, given_logits, y) == gated(fit_platt, given_logits, y)


@lean
@given(
    nps.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e9, 1e9)),
    st.fractions(Fraction(1, 100), Fraction(99, 100), max_denominator=1000),
)
def test_a_conformal_threshold_covers_its_share_of_the_scores_and_is_the_smallest_that_does(
    scores, level
):
    threshold = ConformalScores.of(scores).threshold(level)
    needed = (len(scores) + 1) * level
    if threshold is None:
        assert needed > len(scores)
    else:
        assert (scores <= threshold).sum() >= needed
        assert (scores < threshold).sum() < needed
