import pytest

from flow_nexus_neural.data.column_names import label_like


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
