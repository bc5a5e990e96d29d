import pytest

from flow_nexus_neural.data.column_names import label_like, outcomes_among, time_like


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("Trend", True),
        ("expectedOutcome", True),
        ("future_price", True),
        ("NEXT_close", True),
        ("trends", False),
        ("my_future_price", False),
        ("price", False),
    ],
)
def test_a_name_says_whether_its_column_is_an_outcome(name, outcome):
    assert label_like(name) is outcome


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("unix", True),
        ("open_time", True),
        ("openTime", True),
        ("created_at", True),
        ("<DATE>", True),
        ("Local time", True),
        ("observation_date", True),
        ("timestamp_ms", True),
        ("runtimes", False),
        ("updates", False),
        ("price", False),
    ],
)
def test_a_name_says_whether_its_column_may_hold_times(name, found):
    assert time_like(name) is found


def test_beside_x_and_z_y_is_no_outcome():
    assert outcomes_among(["x", "y", "z", "trend"]) == ["trend"]
    assert outcomes_among(["x", "y", "trend"]) == ["y", "trend"]
