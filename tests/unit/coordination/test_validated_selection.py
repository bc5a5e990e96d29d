"""Validated selection: which candidates there are, and when one of them takes the mean's place."""

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.auto import Auto
from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.registry import find_policy, needs_trusted_rows
from flow_nexus_neural.coordination.consensus.tolerance import Tolerance
from flow_nexus_neural.coordination.consensus.validated_selection import (
    LEAST_ROWS,
    MEAN,
    ROWS,
    ValidatedSelection,
    fold_of,
    select,
)
from flow_nexus_neural.errors import QuorumLost

M = 256
SPREAD = 0.16
ERROR = SPREAD / 16
"""Of the mean of M paired differences with this spread."""


def losses(**gains):
    """Losses of M rows by which candidates gain so much on the mean, give or take the spread."""
    hard = np.random.default_rng(1).exponential(size=M)
    scatter = SPREAD * np.where(np.arange(M) % 2, 1, -1)
    return {MEAN: hard, **{name: hard - gain + scatter for name, gain in gains.items()}}


@pytest.mark.parametrize(
    ("gain", "chosen"),
    [(-0.5, MEAN), (ERROR, MEAN), (1.9 * ERROR, MEAN), (2.1 * ERROR, "filter"), (1.0, "filter")],
)
def test_the_mean_is_kept_unless_a_rule_is_better_by_more_than_two_errors(gain, chosen):
    found = select(losses(filter=gain))
    assert found.chosen == chosen
    assert found.gains["filter"] == pytest.approx(gain)
    assert found.z["filter"] == pytest.approx(gain / ERROR)


def test_of_those_that_are_better_the_one_that_gains_most_is_taken():
    found = select(losses(small=0.2, large=0.4, worse=-0.3))
    assert found.chosen == "large"
    assert set(found.gains) == {"small", "large", "worse"}
    assert found.z["worse"] < 0


def test_errors_are_those_of_pairs_so_that_hard_rows_hide_nothing():
    hard = np.linspace(0, 100, M)
    gain = 0.01 + 0.001 * np.sin(np.arange(M))
    assert select({MEAN: hard, "filter": hard - gain}).chosen == "filter"


def test_equal_losses_keep_the_mean_and_a_gain_without_any_error_does_not():
    same = np.ones(M)
    assert select({MEAN: same, "filter": same.copy()}).z == {"filter": 0.0}
    assert select({MEAN: same, "filter": same.copy()}).chosen == MEAN
    assert select({MEAN: same, "filter": same - 0.5}).chosen == "filter"
    assert select({MEAN: same, "filter": same + 0.5}).chosen == MEAN


@pytest.mark.parametrize(
    ("n", "names"),
    [
        (1, [MEAN]),
        (2, [MEAN]),
        (3, [MEAN, "median", "geometric_median"]),
        (4, [MEAN, "trimmed_mean", "geometric_median"]),
        (5, [MEAN, "caf, f = 1", "caf, f = 2", "nnm+trimmed_mean, f = 1", "geometric_median"]),
        (11, [MEAN, "caf, f = 3", "caf, f = 5", "nnm+trimmed_mean, f = 3", "geometric_median"]),
    ],
)
def test_the_candidates_suit_the_number_of_updates(n, names):
    found = ValidatedSelection().candidates(n)
    assert list(found) == names
    updates = [{"params": np.full(3, k, "f4")} for k in range(n)]
    for name, policy in found.items():
        made = policy.combine({"params": np.zeros(3, "f4")}, updates, [1] * n)
        assert np.isfinite(made.vectors["params"]).all()
        assert made.evidence["rule"] == name.partition(",")[0]


def test_what_was_promised_is_kept_by_every_candidate_or_the_round_fails():
    policy = ValidatedSelection(tolerance=Tolerance(2, exact=True))
    assert "caf, f = 2" in policy.candidates(7)
    with pytest.raises(QuorumLost, match="validated: 4 updates cannot outvote 2"):
        policy.candidates(4)
    assert policy.refusal(4, 2) == Auto().refusal(4, 2)
    assert policy.usual_f(11) == 3


def test_the_mean_among_the_candidates_is_the_one_by_rows():
    draw = np.random.default_rng(2)
    base = {"params": draw.standard_normal(40).astype("f4"), "v": np.ones(40, "f4")}
    updates = [
        {"params": draw.standard_normal(40).astype("f4"), "v": draw.random(40).astype("f4")}
        for _ in range(4)
    ]
    rows = [1, 5, 2, 9]
    mean = ValidatedSelection().candidates(4)[MEAN].combine(base, updates, rows)
    plain = FederatedAveraging().combine(base, updates, rows)
    for name in base:
        np.testing.assert_allclose(mean.vectors[name], plain.vectors[name], atol=1e-5)
    assert mean.weights == pytest.approx(plain.weights)
    assert len(mean.by_update["distance"]) == 4


def test_without_rows_it_is_what_auto_is():
    draw = np.random.default_rng(3)
    updates = [{"params": draw.standard_normal(9).astype("f4")} for _ in range(7)]
    base = {"params": np.zeros(9, "f4")}
    one = ValidatedSelection().combine(base, updates, [1] * 7)
    other = Auto().combine(base, updates, [1] * 7)
    assert one.vectors["params"].tobytes() == other.vectors["params"].tobytes()
    assert one.evidence == other.evidence


def test_rounds_take_the_rows_in_turns_and_no_row_twice_before_all_were_used():
    assert fold_of(LEAST_ROWS - 1, 1) is None
    assert len(range(LEAST_ROWS)[fold_of(LEAST_ROWS, 5)]) == LEAST_ROWS
    n = 3 * ROWS + 11
    seen = [k for number in range(7, 10) for k in range(n)[fold_of(n, number)]]
    assert sorted(seen) == list(range(n))
    assert fold_of(n, 7) == fold_of(n, 10)


def test_it_is_found_by_name_and_needs_rows():
    assert find_policy("validated selection").name == "validated"
    assert needs_trusted_rows("validated")
    assert needs_trusted_rows("FLTrust")
    assert not needs_trusted_rows("auto")
