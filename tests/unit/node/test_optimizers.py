"""Optimisers against their formulas in float64."""

import numpy as np
import pytest
import torch

from flow_nexus_neural.node import optimizers
from flow_nexus_neural.node.optimizers import Descent, fused_adam_is_sound
from flow_nexus_neural.protocol.model_state import MOMENTS

SIZE, STEPS, RATE = 37, 50, 0.03


def _gradients():
    draw = np.random.default_rng(0)
    return draw.normal(size=(STEPS, SIZE)) * np.logspace(-4, 2, SIZE)


def _reference(optimizer, p, v):
    m = np.zeros(SIZE)
    for t, g in enumerate(_gradients(), start=1):
        if optimizer == "sgd":
            p = p - RATE * g
        elif optimizer == "adam":
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g * g
            p = p - RATE * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)
        elif optimizer == "rmsprop":
            v = 0.9 * v + 0.1 * g * g
            p = p - RATE * g / (np.sqrt(v) + 1e-7)
        else:
            v = v + g * g
            p = p - RATE * g / (np.sqrt(v) + 1e-7)
    return p


def _run(optimizer, initial_v):
    params, grads = torch.linspace(-1, 1, SIZE), torch.zeros(SIZE)
    moments = {"m": torch.zeros(SIZE), "v": torch.full((SIZE,), initial_v)}
    kept = {name: moments[name] for name in MOMENTS[optimizer]}
    descent = Descent(optimizer, RATE, params, grads, kept)
    for number, gradient in enumerate(_gradients(), start=1):
        grads.copy_(torch.from_numpy(gradient))
        descent.step(number)
    return params


@pytest.mark.parametrize("optimizer", MOMENTS)
def test_fifty_steps_follow_the_formula(optimizer):
    initial_v = 0.1 if optimizer == "adagrad" else 0.0
    expected = _reference(optimizer, np.linspace(-1, 1, SIZE), np.full(SIZE, initial_v))
    np.testing.assert_allclose(_run(optimizer, initial_v), expected, rtol=2e-5, atol=2e-5)


def test_adagrad_uses_the_accumulator_it_is_given_and_adds_nothing():
    expected = _reference("adagrad", np.linspace(-1, 1, SIZE), np.zeros(SIZE))
    np.testing.assert_allclose(_run("adagrad", 0.0), expected, rtol=2e-5, atol=2e-5)
    assert not torch.allclose(_run("adagrad", 0.0), _run("adagrad", 0.1))


def test_the_moments_decide_so_a_training_can_be_cut_anywhere():
    gradients = _gradients()
    whole = _run("adam", 0.0)
    params, grads = torch.linspace(-1, 1, SIZE), torch.zeros(SIZE)
    state = {"m": torch.zeros(SIZE), "v": torch.zeros(SIZE)}
    for first, last in ((0, 20), (20, 50)):
        state = {name: moment.clone() for name, moment in state.items()}
        descent = Descent("adam", RATE, params, grads, state)
        for number in range(first, last):
            grads.copy_(torch.from_numpy(gradients[number]))
            descent.step(number + 1)
    assert torch.equal(whole, params)


def test_a_missing_moment_is_refused():
    with pytest.raises(ValueError, match="needs the moments v"):
        Descent("rmsprop", RATE, torch.zeros(2), torch.zeros(2), {})


def test_this_torch_has_a_sound_fused_adam():
    fused_adam_is_sound.cache_clear()
    assert fused_adam_is_sound()


def _raise(*_args, **_kwargs):
    raise TypeError("signature changed")


def _do_nothing(*_args, **_kwargs):
    return None


@pytest.mark.parametrize("broken", [_raise, _do_nothing])
def test_a_fused_adam_that_fails_or_lies_is_replaced_by_the_written_formula(broken, monkeypatch):
    monkeypatch.setattr(optimizers.torch, "_fused_adam_", broken)
    fused_adam_is_sound.cache_clear()
    try:
        assert not fused_adam_is_sound()
        expected = _reference("adam", np.linspace(-1, 1, SIZE), np.zeros(SIZE))
        np.testing.assert_allclose(_run("adam", 0.0), expected, rtol=2e-5, atol=2e-5)
    finally:
        fused_adam_is_sound.cache_clear()


def test_steps_beyond_what_float32_counts_still_move():
    params, grads = torch.zeros(3), torch.ones(3)
    moments = {"m": torch.ones(3), "v": torch.ones(3)}
    Descent("adam", RATE, params, grads, moments).step(1 << 40)
    np.testing.assert_allclose(params, -RATE, rtol=1e-5)
