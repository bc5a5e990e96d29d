"""Aggregation policies: the mean, and how a policy is found by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.policy import Combined
from flow_nexus_neural.coordination.consensus.registry import AVERAGING, POLICIES, find_policy


def state(*values):
    return {"params": np.array(values, "f4"), "buffers": np.zeros(0, "f4")}


def test_the_mean_weighs_every_update_by_its_rows():
    made = FederatedAveraging().combine(state(9, 9), [state(1, 2), state(4, 8)], [1, 2])
    assert made.vectors["params"].tolist() == [3, 6]
    assert made.weights == pytest.approx((1 / 3, 2 / 3))
    assert (made.excluded, made.evidence) == ({}, {})


def test_there_is_no_mean_of_nothing():
    with pytest.raises(ValueError, match="no update"):
        FederatedAveraging().combine(state(1), [], [])


@given(st.floats(-1e6, 1e6, width=32), st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_equal_updates_average_to_themselves(value, rows):
    made = FederatedAveraging().combine(state(value), [state(value)] * len(rows), rows)
    assert (
        made.vectors["params"] == state(value)["params"]
    )  # to the bit, but for the sign of a zero
    assert sum(made.weights) == pytest.approx(1)


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3, width=32), st.integers(1, 500)), min_size=1, max_size=6)
)
def test_the_mean_lies_between_the_updates(updates):
    values = [value for value, _ in updates]
    made = FederatedAveraging().combine(
        state(0), [state(value) for value in values], [rows for _, rows in updates]
    )
    (mean,) = made.vectors["params"]
    slack = 1e-3
    assert min(values) - slack <= mean <= max(values) + slack


def test_a_worker_counts_as_much_as_two_that_share_its_rows():
    whole = AVERAGING.combine(state(0), [state(1), state(4)], [6, 2])
    halves = AVERAGING.combine(state(0), [state(1), state(1), state(4)], [3, 3, 2])
    assert np.array_equal(whole.vectors["params"], halves.vectors["params"])


@pytest.mark.parametrize(
    "text", ["federated_averaging", "fedavg", " FedAvg ", "Federated-Averaging"]
)
def test_a_policy_is_found_in_every_spelling(text):
    assert find_policy(text) is AVERAGING


def test_what_is_no_policy_is_not_found():
    assert find_policy("wishful_thinking") is None


def test_no_name_or_alias_means_two_policies():
    names = [name for policy in POLICIES for name in (policy.name, *policy.aliases)]
    assert len(names) == len(set(names))


def test_a_policy_excludes_nobody_unless_it_says_so():
    assert dict(Combined(vectors={}, weights=None).excluded) == {}
