"""The coordinate-wise median: by hand, and against minorities that send anything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from flow_nexus_neural.coordination.consensus.coordinate_median import CoordinateMedian
from flow_nexus_neural.coordination.consensus.registry import AVERAGING, find_policy

MEDIAN = CoordinateMedian()
LARGEST = float(np.finfo(np.float32).max)


def f4(*values):
    return np.array(values, "f4")


def combined(base, *params, rows=None):
    updates = [{"params": f4(*values)} for values in params]
    return MEDIAN.combine({"params": f4(*base)}, updates, rows or [1] * len(updates))


def test_three_updates_give_the_middle_of_each_coordinate_and_none_of_them_has_a_weight():
    made = combined((1, 1), (2, 9), (3, 1), (7, 4))
    assert made.vectors["params"].tolist() == [3, 4]
    assert made.vectors["params"].dtype == np.float32
    assert made.weights is None
    assert made.excluded == {}
    assert made.evidence == {"rule": "coordinate_median", "f": 1, "shortened": []}


@pytest.mark.parametrize(
    ("params", "expected", "f"),
    [([3.0], 3.0, 0), ([1.0, 4.0], 2.5, 0), ([1.0, 2.0, 4.0, 9.0], 3.0, 1)],
)
def test_an_even_number_gives_the_mean_of_the_middle_two_and_one_alone_itself(params, expected, f):
    made = combined((0.5,), *((value,) for value in params))
    assert made.vectors["params"].tolist() == [expected]
    assert made.evidence["f"] == f


def test_rows_do_not_weigh():
    few, many = [combined((0,), (1,), (2,), (9,), rows=rows) for rows in ([1, 1, 1], [1, 1, 999])]
    assert few.vectors["params"].tolist() == many.vectors["params"].tolist() == [2]


def test_every_array_is_combined_also_an_empty_one_and_none_is_modified():
    base = {"params": f4(1), "buffers": f4(), "m": f4(0.5), "v": f4(0.25)}
    updates = [
        {"params": f4(p), "buffers": f4(), "m": f4(m), "v": f4(v)}
        for p, m, v in ((2, 0, 1), (3, 1, 0), (4, 4, 0.5))
    ]
    made = MEDIAN.combine(base, updates, [1, 1, 1]).vectors
    assert {name: values.tolist() for name, values in made.items()} == {
        "params": [3],
        "buffers": [],
        "m": [1],
        "v": [0.5],
    }
    assert base["params"].tolist() == [1]
    assert updates[0]["params"].tolist() == [2]


def test_a_small_second_moment_is_not_lost_beside_a_large_one_of_the_base():
    base = {"v": f4(1e6, 0.1)}
    updates = [{"v": f4(value, 0.0)} for value in (1e-9, 2e-9, 3e-9)]
    assert MEDIAN.combine(base, updates, [1, 1, 1]).vectors["v"].tolist() == f4(2e-9, 0).tolist()


def test_a_change_of_absurd_length_is_shortened_and_said_to_be():
    assert combined((1,), (2,), (3,), (1e6,)).evidence["shortened"] == [2]


def test_no_update_is_refused():
    with pytest.raises(ValueError, match="no update"):
        MEDIAN.combine({"params": f4(1)}, [], [])


@pytest.mark.parametrize("name", ["coordinate_median", "Coordinate-Median", "median"])
def test_it_is_registered_under_its_name_and_alias(name):
    assert find_policy(name).name == "coordinate_median"


def test_opposite_extremes_do_not_cost_the_quorum():
    made = combined((-LARGEST,), (-LARGEST,), (-LARGEST,), (LARGEST,))
    assert made.vectors["params"].tolist() == [f4(-LARGEST)[0]]


VALUES = st.floats(-4, 4, width=32)
ANYTHING = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def honest_and_liars(draw):
    n_liars, d = draw(st.integers(0, 3)), draw(st.integers(1, 4))
    n_honest = n_liars + draw(st.integers(1, 3))
    base = draw(nps.arrays(np.float32, d, elements=VALUES))
    # Changes of one magnitude, so that the guard against absurd lengths has nothing honest to shorten.
    changes = draw(nps.arrays(np.float32, (n_honest, d), elements=st.floats(0.5, 2, width=32)))
    liars = draw(nps.arrays(np.float32, (n_liars, d), elements=ANYTHING))
    order = draw(st.permutations(range(n_honest + n_liars)))
    return base, base + changes, liars, order


@settings(max_examples=150, derandomize=True, deadline=None)
@given(honest_and_liars())
def test_no_minority_moves_a_coordinate_out_of_the_honest_range(case):
    base, honest, liars, order = case
    everyone = [{"params": row} for row in (*honest, *liars)]
    updates = [everyone[k] for k in order]
    found = MEDIAN.combine({"params": base}, updates, [1] * len(updates)).vectors["params"]
    assert np.isfinite(found).all()
    assert (found >= honest.min(axis=0) - 1e-5).all()
    assert (found <= honest.max(axis=0) + 1e-5).all()


def test_the_mean_of_the_same_updates_is_moved():
    base = {"params": f4(0)}
    updates = [{"params": f4(value)} for value in (1, 2, 3, 1e6, 1e6)]
    assert MEDIAN.combine(base, updates, [1] * 5).vectors["params"].tolist() == [3]
    assert AVERAGING.combine(base, updates, [1] * 5).vectors["params"][0] > 1e5
