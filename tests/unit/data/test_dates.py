from datetime import UTC, datetime

import numpy as np
import pytest

from flow_nexus_neural.data.dates import is_date, milliseconds_of, time_of_day


def ms(*parts):
    return datetime(*parts, tzinfo=UTC).timestamp() * 1_000


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("2000-01", (2000, 1, 1)),
        ("2000M03", (2000, 3, 1)),
        ("2000Q3", (2000, 7, 1)),
        ("Q4 2000", (2000, 10, 1)),
        ("2024/01/31", (2024, 1, 31)),
        ("2024.01.31 13:05", (2024, 1, 31, 13, 5)),
        ("20240131", (2024, 1, 31)),
        ("20240131 130530", (2024, 1, 31, 13, 5, 30)),
        ("31.01.2024", (2024, 1, 31)),
        ("31.01.2024 00:15:00.000 GMT+0100", (2024, 1, 30, 23, 15)),
        ("31-Jan-2024", (2024, 1, 31)),
        ("31 January 24", (2024, 1, 31)),
        ("Jan 31, 2024", (2024, 1, 31)),
        ("Wed, 31 Jan 2024 10:00:00 GMT", (2024, 1, 31, 10)),
        ("Jan 2024", (2024, 1, 1)),
        ("2024-01-31 01-PM", (2024, 1, 31, 13)),
        ("1/31/2024 12:30 AM", (2024, 1, 31, 0, 30)),
        ("2024-01-31 10:00:00 UTC", (2024, 1, 31, 10)),
        ("2024-01-31T10:00:00+02:00", (2024, 1, 31, 8)),
        ("2024-01-31T10:00:00.5Z", (2024, 1, 31, 10, 0, 0, 500_000)),
    ],
)
def test_a_date_is_read_as_it_is_written(text, parts):
    assert milliseconds_of([text, text])[0] == ms(*parts)
    assert is_date(text)


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "12",
        "2024-13-01",
        "31/31/2024",
        "1.5",
        "10 apples 2024",
        "2024-01-31 later",
        "12:30",
        "",
    ],
)
def test_what_is_no_date_is_not_read(text):
    assert np.isnan(milliseconds_of([text])[0])


def test_one_date_decides_whether_the_day_or_the_month_comes_first():
    assert milliseconds_of(["01/02/2024", "13/02/2024"]).tolist() == [
        ms(2024, 2, 1),
        ms(2024, 2, 13),
    ]
    assert milliseconds_of(["01/02/2024", "02/13/2024"]).tolist() == [
        ms(2024, 1, 2),
        ms(2024, 2, 13),
    ]


def test_the_order_of_day_and_month_may_follow_from_the_dates_rising():
    texts = ["11/01/2024", "12/01/2024", "01/02/2024", "02/02/2024"]
    assert milliseconds_of(texts)[2] == ms(2024, 2, 1)


def test_dates_that_could_be_in_either_order_are_not_read():
    assert np.isnan(milliseconds_of(["05/04/2024", "01/02/2024", "03/04/2024"])).all()


@pytest.mark.parametrize(
    ("text", "found"),
    [("13:05", 47_100_000), ("1:05:30 PM", 47_130_000), ("00:00:00.25", 250), ("12:00 am", 0)],
)
def test_a_time_of_day_is_milliseconds_since_midnight(text, found):
    assert time_of_day(text) == found


@pytest.mark.parametrize("text", ["25:00", "12:60", "13:00 PM", "1300", "2024-01-01 13:00"])
def test_what_is_no_time_of_day_is_not_read_as_one(text):
    assert np.isnan(time_of_day(text))
