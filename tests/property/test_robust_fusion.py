"""Whatever fewer than a third of the slots answer, the combination stays within the answers of the others."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from flow_nexus_neural.coordination.quorum import robust_quorum
from flow_nexus_neural.kernels.ensemble import fuse
from flow_nexus_neural.kernels.probabilities import class_log_probabilities
from flow_nexus_neural.kernels.robust_fusion import UNDECIDED

lean = settings(max_examples=150, derandomize=True, deadline=None)
ANYTHING = st.floats(width=32, allow_nan=False, allow_infinity=False)
MODES = st.sampled_from(["mean", "majority", "weighted", "ensemble"])


@st.composite
def honest_and_liars(draw, task):
    """Logits of some slots of n, f of them anything, the others in any place among them."""
    n = draw(st.integers(4, 13))
    quorum = robust_quorum(n, n)
    liars = draw(st.integers(0, quorum.f))
    got = draw(st.integers(max(quorum.needed, liars + 1), n))
    width = 1 if task != "multiclass" else draw(st.integers(3, 4))
    seed = draw(st.integers(0, 2**31))
    draws = np.random.default_rng(seed)
    answers = draws.normal(scale=draw(st.sampled_from([0.0, 0.5, 3.0])), size=(got, 2, width))
    answers += draws.normal(size=(1, 2, width))
    where = draw(st.permutations(range(got)))[:liars]
    for place in where:
        answers[place] = draw(nps.arrays(np.float32, (2, width), elements=ANYTHING))
    weights = np.array(draw(st.lists(st.floats(0.01, 1e6), min_size=got, max_size=got)))
    honest = [place for place in range(got) if place not in where]
    return answers, weights, honest, quorum.f


def within(found, honest):
    low, high = honest.min(axis=0), honest.max(axis=0)
    slack = 1e-9 * (1 + np.abs(honest).max())
    return bool((found >= low - slack).all() and (found <= high + slack).all())


@lean
@given(honest_and_liars("binary"), st.sampled_from(["mean", "weighted", "ensemble"]))
def test_a_probability_lies_between_those_of_honest_slots(case, mode):
    answers, weights, honest, f = case
    found = fuse(mode, answers, weights, "binary", f=f)
    assert within(found.values, np.clip(found.node_values[honest], 1e-6, 1 - 1e-6))


@lean
@given(honest_and_liars("regression"), MODES)
def test_a_value_lies_between_those_of_honest_slots(case, mode):
    answers, weights, honest, f = case
    found = fuse(mode, answers, weights, "regression", f=f)
    assert within(found.values, found.node_values[honest])


@lean
@given(honest_and_liars("multiclass"))
def test_odds_of_classes_lie_between_the_extremes_of_honest_slots(case):
    answers, weights, honest, f = case
    found = fuse("mean", answers, weights, "multiclass", f=f)
    log_p = class_log_probabilities(answers[honest])
    fused = np.log(found.probabilities)
    for a in range(log_p.shape[2]):
        for b in range(log_p.shape[2]):
            highest = log_p[:, :, a].max(axis=0) - log_p[:, :, b].min(axis=0)
            assert (fused[:, a] - fused[:, b] <= highest + 1e-6).all()


@lean
@given(honest_and_liars("multiclass"))
def test_a_class_that_no_honest_slot_votes_for_is_never_decided(case):
    answers, weights, honest, f = case
    found = fuse("majority", answers, weights, "multiclass", f=f)
    for row, decision in enumerate(found.decisions):
        assert decision == UNDECIDED or decision in found.node_decisions[honest, row]


@lean
@given(st.integers(4, 13), st.integers(0, 2**31), st.sampled_from(["binary", "regression"]), MODES)
def test_one_slot_that_answers_the_opposite_moves_less_than_the_honest_spread(n, seed, task, mode):
    draws = np.random.default_rng(seed)
    answers = draws.normal(scale=1.0, size=(n, 1, 1)) + draws.normal()
    lied = answers.copy()
    lied[draws.integers(n)] *= -1.0
    f, weights = robust_quorum(n, n).f, np.ones(n)
    honest = fuse(mode, answers, weights, task, f=f)
    moved = abs(fuse(mode, lied, weights, task, f=f).values - honest.values)
    if mode == "majority" and task == "binary":
        assert moved <= 1 / n + 1e-12  # a share of votes moves by one vote
        return
    spread = np.ptp(honest.node_values, axis=0)
    assert (moved <= spread + 1e-12).all()


@lean
@given(
    st.integers(4, 13),
    nps.arrays(np.float32, (3, 4), elements=st.floats(-30, 30, width=32)),
    st.sampled_from(["binary", "regression", "multiclass"]),
    MODES,
)
def test_where_all_hold_one_model_the_answer_is_that_of_trusted_slots(n, one, task, mode):
    own = one if task == "multiclass" else one[:, :1]
    answers, weights = np.broadcast_to(own, (n, *own.shape)), np.ones(n)
    robust = fuse(mode, answers, weights, task, f=robust_quorum(n, n).f)
    plain = fuse(mode, answers, weights, task)
    if (
        mode == "mean" and task != "multiclass"
    ):  # to the last bit what evaluation computes of one slot
        alone = fuse(mode, own[None], [1.0], task)
        assert robust.values.tolist() == alone.values.tolist()
    np.testing.assert_allclose(robust.values, plain.values, rtol=1e-14)
    if task != "regression":
        assert robust.decisions.tolist() == plain.decisions.tolist()
        np.testing.assert_allclose(
            robust.probabilities, plain.probabilities, rtol=1e-13, atol=1e-15
        )
    np.testing.assert_allclose(robust.consensus, plain.consensus)
