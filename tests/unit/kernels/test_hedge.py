"""Hedge by hand-computed values, and its bound against sequences made to hurt it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.kernels.hedge import (
    HedgeState,
    after_outcome,
    hedge_weights,
    outcome_losses,
)

lean = settings(max_examples=60, derandomize=True, deadline=None)
LOSSES = st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=1, max_size=60)


def equal(k):
    return {f"s{n}": 1 / k for n in range(k)}


def played(rounds, prior):
    """The state after rounds of losses, one per expert."""
    state = HedgeState()
    for losses in rounds:
        state = after_outcome(state, prior, dict(zip(prior, losses, strict=False)))
    return state


def test_one_round_by_hand():
    state = played([(0.0, 1.0)], equal(2))
    assert (state.rounds, state.mixture, state.losses) == (1, 0.5, {"s0": 0.0, "s1": 1.0})
    odds = math.exp(math.sqrt(8 * math.log(2) / 2))
    assert hedge_weights(state, equal(2))["s0"] == pytest.approx(odds / (1 + odds))


def test_before_the_first_outcome_the_weights_are_those_of_the_start():
    assert hedge_weights(HedgeState(), {"a": 3.0, "b": 1.0}) == {"a": 0.75, "b": 0.25}
    assert hedge_weights(HedgeState(), {"alone": 0.2}) == {"alone": 1.0}


def regret(rounds, k):
    state = played(rounds, equal(k))
    return state.mixture - min(state.losses.values())


def bound(n, k):
    return math.sqrt(2 * n * math.log(k)) + math.sqrt(math.log(k) / 8)


@lean
@given(LOSSES)
def test_the_mixture_loses_little_more_than_the_best_expert(rounds):
    assert regret(rounds, 5) <= bound(len(rounds), 5) + 1e-9


@pytest.mark.parametrize("k", [2, 6, 11])
def test_the_bound_holds_against_an_adversary_that_punishes_whoever_leads(k):
    state, prior = HedgeState(), equal(k)
    for _ in range(300):
        weights = hedge_weights(state, prior)
        leader = max(weights, key=weights.__getitem__)
        state = after_outcome(state, prior, {name: float(name == leader) for name in prior})
    assert state.mixture - min(state.losses.values()) <= bound(300, k)
    followed = HedgeState()  # control: who follows the leader alone loses every round
    lost = 0.0
    for _ in range(300):
        best = min(prior, key=lambda name: followed.losses.get(name, 0.0))
        lost += 1.0
        followed = after_outcome(followed, prior, {name: float(name == best) for name in prior})
    assert lost - min(followed.losses.values()) > bound(300, k)


@lean
@given(LOSSES, st.permutations(range(5)), st.lists(st.floats(0.01, 1), min_size=5, max_size=5))
def test_weights_sum_to_one_and_follow_their_experts_in_any_order(rounds, order, start):
    prior = dict(zip(equal(5), start, strict=True))
    weights = hedge_weights(played(rounds, prior), prior)
    assert sum(weights.values()) == pytest.approx(1)
    assert min(weights.values()) >= 0
    shuffled = {f"s{n}": prior[f"s{n}"] for n in order}
    again = hedge_weights(
        played([[losses[n] for n in order] for losses in rounds], shuffled), shuffled
    )
    assert again == pytest.approx(weights)


def test_who_gives_no_answer_is_charged_what_the_others_lost():
    state = after_outcome(HedgeState(), equal(3), {"s0": 0.0, "s1": 1.0})
    assert state.losses == {"s0": 0.0, "s1": 1.0, "s2": 0.5}
    with pytest.raises(ValueError, match="some expert"):
        after_outcome(state, equal(3), {})
    with pytest.raises(ValueError, match="some expert"):
        after_outcome(state, equal(3), {"s0": math.nan})


def test_who_joins_later_starts_from_the_loss_of_the_mixture():
    state = played([(0.0, 1.0)] * 8, equal(2))
    weights = hedge_weights(state, equal(3))
    assert weights["s0"] > weights["s2"] > weights["s1"]
    assert after_outcome(state, equal(3), {"s0": 0, "s1": 0, "s2": 0}).losses["s2"] == state.mixture


def test_an_expert_without_weight_gets_none_however_good_it_is():
    state = played([(0.0, 1.0)] * 2000, {"s0": 0.0, "s1": 1.0})
    assert hedge_weights(state, {"s0": 0.0, "s1": 1.0}) == {"s0": 0.0, "s1": 1.0}
    with pytest.raises(ValueError, match="above 0"):
        hedge_weights(state, {"s0": 0.0, "s1": 0.0})


def test_losses_of_classes_and_values():
    p = np.array([0.5, 0.9])
    binary = np.log(p / (1 - p))[:, None]
    assert outcome_losses(binary, 1.0, "binary") == pytest.approx([0.25, 0.01])
    assert outcome_losses(binary, 0.0, "binary") == pytest.approx([0.25, 0.81])
    three = np.log(np.array([[0.5, 0.25, 0.25]]))
    assert outcome_losses(three, 0.0, "multiclass") == pytest.approx([(0.25 + 2 * 0.0625) / 2])
    assert outcome_losses(np.array([[0.5], [9.0]]), 1.0, "regression").tolist() == [0.25, 1.0]
    assert outcome_losses(np.array([[1e9]]), 0.0, "binary").tolist() == [1.0]


def test_an_error_of_any_size_costs_one():
    with np.errstate(all="raise"):
        assert list(outcome_losses(np.array([[0.0], [1e300]]), 1e300, "regression")) == [1.0, 0.0]
