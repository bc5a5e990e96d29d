import numpy as np
import pytest

from flow_nexus_neural.data.moments import calendar_days, moments
from flow_nexus_neural.errors import InvalidDataset
from tests.unit.data.column_values import numbers, text


def test_dates_are_milliseconds_and_without_a_zone_they_are_utc():
    dates = text("1970-01-01", "1970-01-01T00:00:01+00:00", "1970-01-01T01:00:00+01:00")
    assert moments(dates, "t", []).tolist() == [0.0, 1_000.0, 0.0]
    assert moments(numbers(3, 1), "t", []).tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (text("2024-01-01", None), "missing or infinite"),
        (numbers(1, np.inf), "missing or infinite"),
        (text("yesterday"), "'yesterday' in row 1, which is neither a number nor"),
        (np.zeros((2, 3)), "missing or infinite"),
    ],
)
def test_times_that_are_not_moments_are_refused(column, words):
    with pytest.raises(InvalidDataset, match=words):
        moments(column, "t", [])


def test_counts_since_1970_in_two_units_are_brought_to_one():
    warnings = []
    seconds = 1_704_067_200 + 3_600 * np.arange(10.0)
    mixed = np.r_[seconds[:3] * 1e3, seconds[3:6] * 1e6, seconds[6:8], seconds[8:] * 1e9]
    assert moments(mixed, "t", warnings).tolist() == (seconds * 1e3).tolist()
    [warning] = warnings
    assert warning.startswith("time column 't' mixes seconds and milliseconds and microseconds and")
    assert warning.endswith("all are brought to milliseconds")


@pytest.mark.parametrize("scale", [1, 1e3, 1e6, 1e9])
def test_times_in_one_unit_stay_as_they_are(scale):
    warnings = []
    times = (1_704_067_200 + 60 * np.arange(50.0)) * scale
    assert moments(times, "t", warnings) is times
    assert (
        moments(np.arange(50.0) * scale, "t", warnings).tolist() == (np.arange(50) * scale).tolist()
    )
    old = 5e8 + 86_400 * np.arange(2_000.0)
    assert moments(old, "t", warnings) is old
    assert not warnings


def test_a_time_far_from_all_others_is_refused():
    times = 1_704_067_200 + 60.0 * np.arange(50)
    times[7] = 0
    with pytest.raises(InvalidDataset, match="holds 0 in row 8, which is no time like the others"):
        moments(times, "t", [])


def test_numbers_such_as_20240131_are_days_only_where_there_is_such_a_day():
    days = calendar_days(np.array([20240131.0, 20240229, 20230229, 20241301, 131, np.nan]))
    assert days[:2].tolist() == [1_706_659_200_000, 1_709_164_800_000]
    assert np.isnan(days[2:]).all()


def test_times_of_day_are_times_while_they_rise():
    assert moments(text("09:00", "09:30", "13:00"), "time", []).tolist() == [
        32_400_000,
        34_200_000,
        46_800_000,
    ]
    with pytest.raises(InvalidDataset, match="'09:00' in row 1"):
        moments(text("09:00", "13:00", "10:00"), "time", [])
