"""Columns from arrays of Arrow: times, nanoseconds, durations, bytes and large whole numbers."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from flow_nexus_neural.data.memory import Limits
from flow_nexus_neural.data.readers.arrow_values import check_schema, columns_from_arrays, is_number
from flow_nexus_neural.data.table import TextColumn
from flow_nexus_neural.errors import InvalidDataset

ID = 2**53 + 1
NANOSECOND = 1_704_067_200_000_000_123


def read(*arrays, name="a"):
    batches = [{name: array} for array in arrays]
    column = columns_from_arrays(lambda: batches, "data", Limits(1_000))[name]
    if isinstance(column, TextColumn):
        return [None if code < 0 else column.levels[code] for code in column.codes]
    return [None if np.isnan(value) else value for value in column.tolist()]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.timestamp("ns"), [NANOSECOND, None], [float(NANOSECOND), None]),
        (pa.timestamp("ns", "UTC"), [NANOSECOND], [float(NANOSECOND)]),
        (pa.timestamp("s"), [300_000_000_000, 1], [300_000_000_000, 1]),
        (pa.timestamp("ms"), [1_704_067_200_000], ["2024-01-01 00:00:00"]),
        (pa.date32(), [-800_000, 5], [-800_000, 5]),
        (pa.date32(), [0, None], ["1970-01-01", None]),
        (pa.date64(), [86_400_000], ["1970-01-02"]),
        (pa.time64("ns"), [1_001], [1_001]),
        (pa.time64("us"), [1_000_000], ["00:00:01"]),
        (pa.duration("ns"), [1_001, None], [1_001, None]),
        (pa.duration("s"), [90], [90]),
    ],
    ids=str,
)
def test_times_are_iso_text_or_whole_numbers_of_their_unit(kind, values, expected):
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    assert read(pa.array(values, width).cast(kind), name="when") == expected


def test_one_far_date_makes_numbers_of_a_whole_column():
    near = pa.array([dt.date(2024, 1, 1)], pa.date32())
    far = pa.array([9_000_000], pa.int32()).cast(pa.date32())
    assert read(near, far) == [19_723, 9_000_000]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([ID, ID - 1, None, 7]),
        pa.array([ID, ID - 1, None, 7], pa.uint64()),
        pa.array([Decimal(ID), Decimal(ID - 1), None, Decimal(7)], pa.decimal128(38, 0)),
        pa.array([ID, ID - 1, None, 7]).dictionary_encode(),
    ],
    ids=["int64", "uint64", "decimal", "dictionary"],
)
def test_whole_numbers_above_2_to_the_53_keep_every_digit_also_in_later_batches(array):
    earlier = pa.array([1, 2])
    earlier = (
        earlier.dictionary_encode() if "dictionary" in str(array.type) else earlier.cast(array.type)
    )
    assert read(earlier, array) == ["1", "2", str(ID), str(ID - 1), None, "7"]


def test_large_numbers_that_float64_holds_and_times_stay_numbers():
    assert read(pa.array([2**60, 3])) == [2**60, 3]
    assert read(pa.array([NANOSECOND, 3]), name="open_time") == [float(NANOSECOND), 3]


def test_bytes_are_utf_8_text_and_others_are_an_error():
    assert read(pa.array([b"BTC", None, "Zürich".encode()])) == ["BTC", None, "Zürich"]
    with pytest.raises(UnicodeDecodeError):
        read(pa.array([b"\xff\xfe"]))


def test_objects_and_columns_of_one_name_are_refused_from_the_schema():
    check_schema(pa.schema([("a", pa.int64()), ("v", pa.list_(pa.float32()))]), "data")
    assert is_number(pa.decimal128(10, 2))
    with pytest.raises(InvalidDataset, match="names columns twice: a"):
        check_schema(pa.schema([("a", pa.int64()), ("a", pa.int64())]), "data")
    with pytest.raises(InvalidDataset, match="column 'o' holds objects"):
        check_schema(pa.schema([("o", pa.struct([("x", pa.int64())]))]), "data")
