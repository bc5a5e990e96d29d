import numpy as np
import pytest

from flow_nexus_neural.data.moments import moments
from flow_nexus_neural.errors import InvalidDataset
from tests.unit.data.column_values import numbers, text


def test_dates_are_milliseconds_and_without_a_zone_they_are_utc():
    dates = text("1970-01-01", "1970-01-01T00:00:01+00:00", "1970-01-01T01:00:00+01:00")
    assert moments(dates, "t").tolist() == [0.0, 1_000.0, 0.0]
    assert moments(numbers(3, 1), "t").tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (text("2024-01-01", None), "missing or infinite"),
        (numbers(1, np.inf), "missing or infinite"),
        (text("yesterday"), "'yesterday', which is neither a number nor"),
        (np.zeros((2, 3)), "missing or infinite"),
    ],
)
def test_times_that_are_not_moments_are_refused(column, words):
    with pytest.raises(InvalidDataset, match=words):
        moments(column, "t")
