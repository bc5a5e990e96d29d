"""Folders as Spark, Hive and Hugging Face write them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flow_nexus_neural.data import directory
from flow_nexus_neural.data.file_parts import are_parts, is_partition, joined_parts
from flow_nexus_neural.data.inline import table_of
from flow_nexus_neural.data.memory import Limits
from flow_nexus_neural.data.resolve import resolve
from flow_nexus_neural.data.table import TextColumn
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded
from tests.unit.data.reading import read_folder


def cells(table, name):
    column = table.columns[name]
    if isinstance(column, TextColumn):
        return [None if code < 0 else column.levels[code] for code in column.codes]
    return column.tolist()


def rows(first, count=3):
    return pa.table({"a": np.arange(first, first + count, dtype=float), "label": [0, 1, 0][:count]})


def save_arrow(folder, first, parts=2, count=3):
    folder.mkdir(parents=True)
    for part in range(parts):
        content = rows(first + part * count, count)
        path = folder / f"data-{part:05d}-of-{parts:05d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, content.schema) as out:
            out.write_table(content)
    names = [{"filename": path.name} for path in sorted(folder.glob("*.arrow"))]
    (folder / "state.json").write_text(json.dumps({"_data_files": names, "_split": "train"}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {"a": {"dtype": "float64"}}}))


def test_a_saved_data_set_of_hugging_face_is_one_table(root, settings):
    save_arrow(root / "hf", 0)
    source = resolve("hf", settings)
    assert (source.kind, source.table.clients) == ("directory", ())
    assert cells(source.table, "a") == [0, 1, 2, 3, 4, 5]


def test_a_saved_data_set_with_splits_keeps_them(root, settings):
    for split, first in (("train", 0), ("validation", 6), ("test", 12)):
        save_arrow(root / "hf" / split, first)
    (root / "hf" / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test"]}')
    table, target, digests = read_folder(root / "hf", settings)
    assert cells(table, "a") == list(range(18))
    assert table.in_test.tolist() == [False] * 12 + [True] * 6
    assert (target, table.clients, len(digests)) == (None, (), 6)
    assert "validation rows given are training rows" in table.remarks[0]


@pytest.mark.parametrize("suffix", ["snappy.parquet", "json", "csv"])
def test_the_parts_that_spark_writes_are_one_table(root, settings, suffix):
    (root / "out").mkdir()
    (root / "out" / "_SUCCESS").write_text("")
    for part in range(2):
        path = root / "out" / f"part-{part:05d}-5f2b-c000.{suffix}"
        content = rows(part * 3)
        if suffix.endswith("parquet"):
            pq.write_table(content, path)
        elif suffix == "json":
            path.write_text("\n".join(map(json.dumps, content.to_pylist())))
        else:
            lines = (f"{row['a']},{row['label']}" for row in content.to_pylist())
            path.write_text("a,label\n" + "\n".join(lines))
    table, _, _ = read_folder(root / "out", settings)
    assert (table.clients, cells(table, "a")) == ((), [0, 1, 2, 3, 4, 5])


def test_parts_named_after_splits_are_those_splits(root, settings):
    (root / "data").mkdir()
    for name, first in (("train", 0), ("test", 3)):
        pq.write_table(rows(first), root / "data" / f"{name}-00000-of-00001.parquet")
    table, _, _ = read_folder(root / "data", settings)
    assert cells(table, "a") == list(range(6))
    assert table.in_test.tolist() == [False] * 3 + [True] * 3


def write_partitions(root, paths):
    for number, path in enumerate(paths):
        (root / path).mkdir(parents=True, exist_ok=True)
        pq.write_table(rows(number * 3), root / path / "part-0.parquet")


def test_partitions_of_a_folder_become_columns(root, settings):
    paths = ["year=2024/symbol=BTC%2FUSD", "year=2024/symbol=ETH", "year=2025/symbol=ETH"]
    write_partitions(root / "hive", paths)
    source = resolve("hive", settings)
    table = source.table
    assert list(table.columns) == ["year", "symbol", "a", "label"]
    assert cells(table, "year") == [2024] * 6 + [2025] * 3
    assert cells(table, "symbol") == ["BTC/USD"] * 3 + ["ETH"] * 6
    assert cells(table, "a") == list(range(9))
    assert source.origin == "directory of 3 files"


def test_a_partition_without_a_value_is_missing_and_a_column_of_the_files_wins(root, settings):
    write_partitions(root / "hive", ["s=x", "s=__HIVE_DEFAULT_PARTITION__"])
    assert cells(read_folder(root / "hive", settings)[0], "s") == [None] * 3 + ["x"] * 3
    write_partitions(root / "own", ["a=7"])
    assert cells(read_folder(root / "own", settings)[0], "a") == [0, 1, 2]


def test_what_does_not_fit_is_named(root, settings, monkeypatch):
    write_partitions(root / "hive", ["x=1", "y=2"])
    with pytest.raises(InvalidDataset, match="different partitions"):
        read_folder(root / "hive", settings)
    (root / "empty" / "x=1").mkdir(parents=True)
    with pytest.raises(InvalidDataset, match="no data file"):
        read_folder(root / "empty", settings)
    monkeypatch.setattr(directory, "MAX_PARTITIONS", 1)
    write_partitions(root / "deep", ["x=1/y=2"])
    with pytest.raises(LimitExceeded, match="more than 1 deep"):
        read_folder(root / "deep", settings)


@pytest.mark.parametrize(
    ("stems", "parts"),
    [
        (["part-00000-5f2b-c000", "part-00001"], True),
        (["data-00000-of-00002", "data-00001-of-00002"], True),
        (["client_0", "client_1"], False),
        (["part-00000", "extra"], False),
        (["partner-1"], False),
        ([], False),
    ],
)
def test_parts_are_told_by_their_names(stems, parts):
    assert are_parts(stems) is parts


def test_partitions_are_told_by_their_names():
    assert [is_partition(name) for name in ("a=1", "a=", "=1", "a")] == [True, True, False, False]


def test_parts_of_other_columns_are_refused():
    limits = Limits(100)
    tables = {
        "part-0": table_of({"a": [1.0]}, "data", limits)[0],
        "part-1": table_of({"b": [1.0]}, "data", limits)[0],
    }
    with pytest.raises(InvalidDataset, match="part-1 and part-0 differ in columns a, b"):
        joined_parts(tables, "data")
