"""Drift: silent on one population, loud once on another, by known values and over seeds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.kernels.drift import (
    PSI_LIMIT,
    Adwin,
    Reference,
    after_value,
    forgotten,
    stability_index,
    values_after,
)

SEEDS = range(3)


def errors(seed, *parts):
    """Zeros and ones, each part with its own rate: (values, rate)."""
    draw = np.random.Generator(np.random.PCG64(seed))
    return np.concatenate([draw.random(n) < rate for n, rate in parts]).astype(float).tolist()


def test_ten_thousand_rows_without_drift_raise_less_than_one_alarm_on_average():
    found = [values_after(Adwin(), errors(seed, (10_000, 0.3))).drifts for seed in SEEDS]
    assert np.mean(found) < 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("before", "after"), [(0.1, 0.9), (0.3, 0.7)])
def test_flipped_labels_are_found_once_and_soon(seed, before, after):
    state = values_after(Adwin(), errors(seed, (1000, before), (1500, after)))
    assert state.drifts == 1
    assert 1000 < state.drifted_at <= 1200
    assert state.mean == pytest.approx(after, abs=0.05)
    assert state.width < 1550  # what was before is forgotten


def test_errors_that_fall_shorten_the_window_and_are_no_drift():
    state = values_after(Adwin(), errors(1, (1000, 0.9), (1000, 0.1)))
    assert (state.drifts, state.drifted_at) == (0, None)
    assert state.width < 1100


def test_a_control_that_never_cuts_would_average_over_the_change():
    values = errors(0, (1000, 0.1), (1500, 0.9))
    assert abs(np.mean(values) - 0.9) > 0.2


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=200))
def test_the_buckets_hold_every_value_of_the_window(values):
    state = values_after(Adwin(), values)
    newest = values[len(values) - state.width :]
    assert state.seen == len(values)
    assert sum(state.sums) == pytest.approx(sum(newest))
    assert sum(state.squares) == pytest.approx(sum(v * v for v in newest))
    assert list(state.counts) == sorted(state.counts, reverse=True)
    assert len(state.counts) <= 6 * (1 + math.log2(len(values) + 1))


def test_values_outside_of_their_range_are_refused():
    for value in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="not in"):
            after_value(Adwin(), value)


def test_a_new_model_begins_with_an_empty_window():
    state = forgotten(values_after(Adwin(), errors(1, (400, 0.1), (400, 0.9))))
    assert (state.width, state.mean, state.drifts, state.seen) == (0, None, 1, 800)


def normal(seed, n=1000, shift=0.0, features=3):
    draw = np.random.Generator(np.random.PCG64(seed))
    return draw.standard_normal((n, features)) + np.array([shift] + [0.0] * (features - 1))


def test_the_index_by_hand():
    reference = Reference.of(np.array([[0.0], [1.0], [2.0], [3.0]]), bins=2)
    assert reference.shares.tolist() == [[0.5, 0.5]]
    found = stability_index(reference, np.array([[0.0], [9.0], [9.0], [9.0]]))
    p, q = (1.5 / 5, 3.5 / 5), (2.5 / 5, 2.5 / 5)
    assert found[0] == pytest.approx(
        sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
    )


def test_only_the_input_that_moved_is_beyond_the_limit():
    reference = Reference.of(normal(0, 5000))
    assert (stability_index(reference, normal(1, 300)) < PSI_LIMIT).all()
    moved = stability_index(reference, normal(1, 300, shift=1.0))
    assert moved[0] > PSI_LIMIT > moved[1:].max()


def test_rows_without_drift_stay_below_the_limit_over_seeds_and_features():
    reference = Reference.of(normal(0, 5000, features=50))
    highest = [
        stability_index(reference, normal(seed, 200, features=50)).max() for seed in range(1, 20)
    ]
    assert max(highest) < PSI_LIMIT


def test_an_input_of_one_value_has_no_drift_and_gains_it_with_another():
    reference = Reference.of(np.zeros((100, 1)))
    assert stability_index(reference, np.zeros((100, 1)))[0] == pytest.approx(0)
    assert stability_index(reference, np.full((100, 1), -1.0))[0] > PSI_LIMIT
