"""FLTrust as a policy: each array against the trusted one of its name, and who points away is named."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.registry import find_policy
from flow_nexus_neural.coordination.consensus.tolerance import Tolerance
from flow_nexus_neural.errors import QuorumLost

BASE = {"params": np.ones(3, "f4"), "buffers": np.zeros(0, "f4"), "v": np.zeros(3, "f4")}
FLTRUST = find_policy("fltrust")


def state(change, v=0.5):
    return {
        "params": BASE["params"] + np.asarray(change, "f4"),
        "buffers": np.zeros(0, "f4"),
        "v": np.full(3, v, "f4"),
    }


ROOT = state([1.0, 0.0, 0.0])


def test_a_change_that_points_away_is_excluded_and_named():
    updates = [state([2.0, 0.0, 0.0]), state([-9.0, 0.0, 0.0]), state([0.5, 0.0, 0.0])]
    made = FLTRUST.trusting(ROOT).combine(BASE, updates, [1, 1, 1])
    assert made.vectors["params"] == pytest.approx([2.0, 1.0, 1.0])
    assert made.vectors["v"] == pytest.approx([0.5] * 3)
    assert made.vectors["buffers"].size == 0
    assert made.weights == pytest.approx((0.5, 0.0, 0.5))
    assert set(made.excluded) == {1}
    assert "fltrust gave its update no weight" in made.excluded[1]
    assert {len(values) for values in made.by_update.values()} == {3}
    assert made.evidence["rule"] == "fltrust"


def test_lies_in_the_second_moment_are_cut_to_the_trusted_length():
    updates = [state([1.0, 0.0, 0.0]), state([1.0, 0.0, 0.0], v=1e20)]
    made = FLTRUST.trusting(ROOT).combine(BASE, updates, [1, 1])
    assert made.vectors["v"] == pytest.approx([0.5] * 3)


def test_where_all_point_away_the_trusted_update_alone_is_the_result_and_says_so():
    updates = [state([-1.0, 0.0, 0.0]), state([-2.0, 0.0, 0.0])]
    made = FLTRUST.trusting(ROOT).combine(BASE, updates, [1, 1])
    assert made.vectors["params"] == pytest.approx(ROOT["params"])
    assert made.excluded == {}
    assert made.evidence["trusted_alone"] is True


def test_without_a_trusted_update_nothing_is_combined():
    with pytest.raises(QuorumLost, match="no update from trusted rows"):
        FLTRUST.combine(BASE, [state([1.0, 0.0, 0.0])], [1])


def test_it_keeps_its_number_and_refuses_only_more_liars_than_updates():
    told = FLTRUST.tolerating(Tolerance(4, exact=True)).trusting(ROOT)
    assert told.combine(BASE, [state([1.0, 0.0, 0.0])] * 5, [1] * 5).evidence["f"] == 4
    assert replace(told, trusted=None) == FLTRUST.tolerating(Tolerance(4, exact=True))
    assert FLTRUST.refusal(3, 4) == "there are only 3 updates"
    assert FLTRUST.refusal(3, 3) is None
    assert FLTRUST.usual_f(11) == 3
