import io

import numpy as np
import pytest

from flow_nexus_neural.data.memory import MemoryBudget
from flow_nexus_neural.data.readers import arrays
from flow_nexus_neural.data.readers.arrays import read_columns, read_header, texts_of
from flow_nexus_neural.data.table import TextColumn
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded


def saved(array: np.ndarray) -> io.BytesIO:
    buffer = io.BytesIO()
    np.save(buffer, array)
    buffer.seek(0)
    return buffer


def read(array: np.ndarray, limit: int = 10**9, max_rows: int = 1_000):
    stream = saved(array)
    header = read_header(stream, "the array", max_rows)
    return read_columns(stream, header, "the array", MemoryBudget("the array", limit))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(arrays, "PIECE_BYTES", 256)


@pytest.mark.parametrize("dtype", ["f8", ">f8", "f4", "f2", "i1", "u8", "<i4", ">i2", "?", "g"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(97,), (31, 5), (7, 3, 4), ()])
def test_numbers_of_every_type_are_what_numpy_reads(dtype, order, shape):
    values = np.random.Generator(np.random.PCG64(3)).integers(0, 100, shape)
    array = np.asarray(values, dtype=dtype, order=order)
    column = read(array)[""]
    assert column.dtype == (np.float32 if dtype == "f4" else np.float64)
    np.testing.assert_array_equal(column, array.astype(column.dtype))


def test_texts_and_times_become_columns():
    texts = read(np.array(["a", "bb", "a"] * 50))[""]
    assert isinstance(texts, TextColumn)
    assert texts_of(texts) == ["a", "bb", "a"] * 50
    assert texts_of(read(np.array([b"x", b"y"]))[""]) == ["x", "y"]
    times = read(np.array(["2024-01-01T00:00:00.5", "NaT"], dtype="M8[ns]"))[""]
    assert times[0] == 1_704_067_200_500
    assert np.isnan(times[1])


def test_fields_become_columns_of_their_own():
    array = np.zeros(40, dtype=[("a", "i4"), ("v", "f8", (3,)), ("s", "U2")])
    array["a"], array["v"], array["s"] = np.arange(40), np.arange(120).reshape(40, 3), "xy"
    columns = read(array)
    assert columns["a"].tolist() == list(range(40))
    np.testing.assert_array_equal(columns["v"], array["v"])
    assert texts_of(columns["s"]) == ["xy"] * 40


@pytest.mark.parametrize(
    ("array", "limit"),
    [
        (np.zeros((100, 10), dtype="u1"), 7_999),
        (np.zeros((100, 10), dtype="f4"), 3_999),
        (np.array([f"text {index}" for index in range(100)]), 9_999),
        (np.zeros(100, dtype=[("a", "u1", (10,))]), 7_999),
    ],
)
def test_what_a_column_takes_is_counted_before_it_is_taken(array, limit):
    with pytest.raises(LimitExceeded, match="more memory"):
        read(array, limit)


def test_rows_and_cells_are_counted_from_the_header(monkeypatch):
    with pytest.raises(LimitExceeded, match="more than 9 rows"):
        read(np.zeros(10), max_rows=9)
    monkeypatch.setattr("flow_nexus_neural.data.table.MAX_CELLS", 99)
    with pytest.raises(LimitExceeded, match="100 x 1 cells"):
        read_header(saved(np.zeros((10, 10), dtype="u1")), "the array", 1_000)


def test_a_header_is_bounded_before_it_is_read():
    stream = io.BytesIO(b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little") + b" " * 100)
    with pytest.raises(InvalidDataset, match="a header of 1073741824 bytes"):
        read_header(stream, "the array", 10)
    assert stream.tell() == 12


@pytest.mark.parametrize("array", [np.zeros(3, "c16"), np.zeros(3, "V3"), np.zeros((2, 2), "U3")])
def test_what_can_be_no_column_is_refused(array):
    with pytest.raises(InvalidDataset, match="an array of type"):
        read(array)


def test_values_that_end_early_are_an_error():
    stream = saved(np.arange(100.0))
    header = read_header(stream, "the array", 1_000)
    short = io.BytesIO(stream.read()[:-1])
    with pytest.raises(ValueError, match="end too early"):
        read_columns(short, header, "the array", MemoryBudget("the array"))
