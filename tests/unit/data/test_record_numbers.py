import math

import pytest

from flow_nexus_neural.data.record_numbers import finite_number, finite_numbers
from flow_nexus_neural.errors import InvalidRecord


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1),
        (True, 1),
        ("false", 0),
        ("2.5", 2.5),
        ("1,000.5", 1000.5),
        ("$3", 3),
        ("\u22122", -2),
    ],
)
def test_a_number_of_a_record_may_be_spelt_in_other_ways(value, number):
    assert finite_number("a", value) == number


def test_the_mark_before_decimals_of_the_training_data_counts():
    assert finite_number("a", "1,234", ",") == 1.234
    assert finite_number("a", "1.234", ",") == 1234
    assert finite_number("a", 1.234, ",") == 1.234


@pytest.mark.parametrize("value", [None, "", " "])
def test_nothing_is_missing(value):
    assert math.isnan(finite_number("a", value))


@pytest.mark.parametrize("value", ["oak", "1,234", "1,5", "inf", float("nan"), [1], {}, 10**400])
def test_what_is_no_finite_number_is_refused_by_its_name(value):
    with pytest.raises(InvalidRecord, match=r"'a' is .* not a finite number"):
        finite_number("a", value)


def test_a_list_of_numbers_is_read_with_its_gaps():
    numbers = finite_numbers("v", [1, None, "2,000.5"])
    assert numbers[[0, 2]].tolist() == [1, 2000.5]
    assert math.isnan(numbers[1])
    assert finite_numbers("v", [1, 2.5]).tolist() == [1, 2.5]
