"""Server steps of federated optimisation: what holds for every input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_nexus_neural.kernels.averaging import federated_average
from flow_nexus_neural.kernels.folding import BLOCK
from flow_nexus_neural.kernels.server_steps import (
    ADAPTIVITY,
    Rates,
    adagrad_second_moment,
    adam_second_moment,
    adaptive_step,
    client_control,
    equal_mean_step,
    mean_change,
    momentum_step,
    server_control,
    within_float32,
    yogi_second_moment,
)

SECOND_MOMENTS = [adam_second_moment, yogi_second_moment, adagrad_second_moment]
PLAIN, USUAL = Rates(1.0, 0.0), Rates(0.01, 0.9)
floats = st.floats(-1e4, 1e4, width=32)
vectors = st.integers(1, 5).flatmap(
    lambda d: st.lists(st.lists(floats, min_size=d, max_size=d), min_size=2, max_size=6)
)


def f4(values):
    return np.array(values, "f4")


def start(base):
    return np.zeros_like(base), np.full_like(base, ADAPTIVITY**2)


def adaptive(base, updates, rows, second_moment, moments=None, rates=USUAL):
    return adaptive_step(base, updates, rows, moments or start(base), rates, second_moment)


@given(vectors, st.data())
def test_without_momentum_and_at_rate_1_the_step_is_the_weighted_mean(given_vectors, data):
    base, *updates = map(f4, given_vectors)
    rows = data.draw(st.lists(st.integers(1, 500), min_size=len(updates), max_size=len(updates)))
    moved = momentum_step(base, updates, rows, np.zeros_like(base), PLAIN)
    mean = federated_average(updates, rows)
    np.testing.assert_allclose(moved.params, mean, rtol=1e-6, atol=1e-6)


@given(vectors)
def test_one_client_at_rate_1_is_that_client(given_vectors):
    base, update, *_ = map(f4, given_vectors)
    for made in (
        momentum_step(base, [update], [7], np.zeros_like(base), PLAIN).params,
        equal_mean_step(base, [update], learning_rate=1.0),
    ):
        np.testing.assert_allclose(made, update, rtol=1e-6, atol=1e-6)


@given(vectors, st.integers(1, 6))
def test_clients_that_did_not_move_move_nothing_from_a_fresh_start(given_vectors, n):
    base = f4(given_vectors[0])
    rows = [*range(1, n + 1)]
    for second_moment in SECOND_MOMENTS:
        moved = adaptive(base, [base] * n, rows, second_moment)
        assert np.array_equal(moved.params, base)
        assert not moved.momentum.any()
    moved = momentum_step(base, [base] * n, rows, np.zeros_like(base), Rates(1.0, 0.9))
    assert np.array_equal(moved.params, base)
    assert np.array_equal(equal_mean_step(base, [base] * n, learning_rate=3.0), base)


@given(vectors, st.randoms(use_true_random=False))
def test_the_order_of_clients_does_not_matter_beyond_rounding(given_vectors, draw):
    base, *updates = map(f4, given_vectors)
    pairs = [(update, count) for count, update in enumerate(updates, 1)]
    mixed = pairs.copy()
    draw.shuffle(mixed)
    for second_moment in SECOND_MOMENTS:
        one, other = (
            adaptive(base, [u for u, _ in order], [c for _, c in order], second_moment)
            for order in (pairs, mixed)
        )
        np.testing.assert_allclose(one.params, other.params, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.second_moment, other.second_moment, rtol=1e-5, atol=1e-9)


@given(vectors)
def test_an_adaptive_step_is_bounded_whatever_the_clients_do(given_vectors):
    base, *updates = map(f4, given_vectors)
    rows = [1] * len(updates)
    # |D| / sqrt((1 - beta2) D^2) = 10 with beta2 = .99, times 1 - beta1 = .1, times the rate .01.
    moved = adaptive(base, updates, rows, adam_second_moment)
    assert (np.abs(moved.params - base) <= 0.0101 + 1e-6 * np.abs(base)).all()


@pytest.mark.parametrize("second_moment", SECOND_MOMENTS)
@pytest.mark.parametrize("value", [3e38, -3e38, 1e-38])
def test_nothing_overflows_however_far_clients_go(second_moment, value):
    base = f4([value, -value, 0.0])
    moments, momentum = None, np.zeros_like(base)
    for _ in range(5):
        far = -base
        moved = adaptive(base, [far, far], [1, 2], second_moment, moments, Rates(100.0, 0.9))
        moments = (moved.momentum, moved.second_moment)
        pushed = momentum_step(base, [far], [1], momentum, Rates(100.0, 0.999))
        momentum = pushed.momentum
        for vector in (moved.params, *moments, pushed.params, momentum):
            assert np.isfinite(vector).all()
            assert vector.dtype == np.float32
        assert (moved.second_moment >= 0).all()
    control = client_control(base, base, -base, steps=1, learning_rate=1e-5)
    assert np.isfinite(control).all()
    assert np.isfinite(within_float32(server_control([control] * 4, 1, 3))).all()


def test_blocks_give_what_one_pass_gives():
    draw = np.random.default_rng(3)
    base, *updates = (draw.normal(size=2 * BLOCK + 17).astype("f4") for _ in range(4))
    moved = adaptive(base, updates, [1, 2, 3], yogi_second_moment)
    for part in (slice(0, 10), slice(BLOCK - 5, BLOCK + 5), slice(2 * BLOCK, None)):
        alone = adaptive(base[part], [u[part] for u in updates], [1, 2, 3], yogi_second_moment)
        assert np.array_equal(moved.params[part], alone.params)
        assert np.array_equal(moved.second_moment[part], alone.second_moment)


def test_the_mean_change_weighs_by_rows_and_refuses_what_does_not_fit():
    base, updates = f4([1, 1]), [f4([2, 1]), f4([1, 5])]
    assert mean_change(base, updates, [3, 1]).tolist() == [0.75, 1.0]
    for rows in ([1], [0, 0], [-1, 2], []):
        with pytest.raises(ValueError, match="row counts"):
            mean_change(base, updates, rows)
    with pytest.raises(ValueError, match="row counts"):
        mean_change(base, [], [])
    with pytest.raises(ValueError, match="shape"):
        momentum_step(base, [f4([1])], [1], np.zeros_like(base), PLAIN)


@given(vectors, st.integers(1, 20), st.floats(0.001, 1))
def test_a_client_control_is_the_mean_gradient_of_its_steps(given_vectors, steps, rate):
    """Steps along gradients g_k + correction end where option II finds the mean of the g_k."""
    base, *gradients = (f4(v).astype("f8") for v in given_vectors)
    correction = gradients[0] / 3
    used = [gradients[k % len(gradients)] for k in range(steps)]
    params = base - rate * sum(g + correction for g in used)
    found = client_control(correction, base, params, steps=steps, learning_rate=rate)
    scale = max(1.0, np.abs(base).max() / rate)
    np.testing.assert_allclose(found, sum(used) / steps, rtol=1e-5, atol=1e-6 * scale)


@given(st.lists(floats, min_size=1, max_size=8), st.integers(0, 8), st.lists(floats, max_size=8))
def test_the_server_control_moves_by_s_over_n_times_the_mean_change(former, absent, fresh):
    """Algorithm 1, line 17: c + (|S|/N) (1/|S|) sum over S of the changes."""
    n = len(former) + absent
    before = server_control([f4([c]) for c in former], n, 1)
    replaced = min(len(fresh), len(former))
    after = [*fresh[:replaced], *former[replaced:]]
    changes = [new - old for new, old in zip(fresh, former, strict=False)]
    mean = sum(changes) / replaced if replaced else 0.0
    expected = before + replaced / n * mean
    found = server_control([f4([c]) for c in after], n, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
