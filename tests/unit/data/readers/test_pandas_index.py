"""The index of a pandas frame, which its Parquet files hold as a column."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flow_nexus_neural.data.readers.pandas_index import index_columns, left_out_note, renamed
from tests.unit.data.reading import read_path


def table(index, name="__index_level_0__", described=None):
    described = {"index_columns": [name]} if described is None else described
    columns = pa.table({"a": [1.0, 2.0], "y": ["u", "v"], name: index})
    return columns.replace_schema_metadata({"pandas": json.dumps(described)})


@pytest.mark.parametrize("index", [[7, 3], ["p", "q"]])
def test_an_index_without_a_name_is_left_out_with_a_word(root, index):
    pq.write_table(table(index), root / "a.parquet")
    read, _ = read_path(root / "a.parquet")
    assert list(read.columns) == ["a", "y"]
    assert read.remarks == ("'__index_level_0__' is the index of a pandas frame and is left out",)


def test_an_index_of_times_is_kept_as_the_time(root):
    times = pa.array([1_704_067_200_000, 1_704_153_600_000], pa.timestamp("ms"))
    pq.write_table(table(times), root / "a.parquet")
    read, _ = read_path(root / "a.parquet")
    assert list(read.columns) == ["a", "y", "timestamp"]
    assert read.columns["timestamp"].levels == ("2024-01-01 00:00:00", "2024-01-02 00:00:00")
    assert renamed("__index_level_0__", ["timestamp"]) == "__index_level_0__"


@pytest.mark.parametrize(
    "described",
    [
        {"index_columns": [{"kind": "range", "start": 0}]},
        {"index_columns": ["customer"]},
        {"index_columns": "__index_level_0__"},
        {"columns": []},
        [1],
    ],
)
def test_other_columns_are_no_index(described):
    assert index_columns(table([1, 2], described=described).schema) == frozenset()


@pytest.mark.parametrize("written", [b"", b"{", b"[" * 100_000, b"\xff"])
def test_broken_metadata_say_nothing(written):
    schema = pa.schema([("a", pa.int64())], metadata={"pandas": written})
    assert index_columns(schema) == frozenset()
    assert index_columns(pa.schema([("a", pa.int64())])) == frozenset()
    assert left_out_note([]) == ()
