import sys
from contextlib import suppress

import numpy as np
import pytest

from flow_nexus_neural.data.readers import arrow_values, parquet_file
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded, NotAvailable
from tests.unit.data.reading import read_path

ROWS = 1_000_000


def test_parquet_is_read_with_lists_texts_and_missing_values(root):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = root / "a.parquet"
    columns = {"v": [[1.0, 2.0], [3.0, None]], "s": ["a", None], "x": [1, None]}
    pq.write_table(pa.table(columns), path)
    read = read_path(path, ROWS)[0].columns
    assert read["v"].shape == (2, 2)
    assert np.isnan([read["v"][1, 1], read["x"][1]]).all()
    assert read["s"].codes.tolist() == [0, -1]


def test_parquet_without_its_library_says_what_to_install(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = root / "a.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(NotAvailable, match="needs pyarrow") as caught:
        read_path(path, ROWS)
    assert "[parquet]" in caught.value.hint


def write(path, *, groups=1_000_000, **columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(columns) if columns else pa.table({"a": [1.0] * 10, "y": [0, 1] * 5})
    pq.write_table(table, path, row_group_size=groups)
    return path


def test_every_kind_of_number_is_read_in_several_groups(root):
    import pyarrow as pa

    path = write(
        root / "a.parquet",
        groups=3,
        i=pa.array([1, None, 3, 4, 5, 6, 7], pa.int64()),
        b=pa.array([True, False, None, True, True, False, True]),
        f=pa.array([0.5, 1, 2, 3, 4, 5, None], pa.float32()),
        n=pa.nulls(7),
        t=pa.array([1_704_067_200_000_000_001] * 7, pa.timestamp("ns")),
        d=pa.array([b"x", b"y", None, b"x", b"x", b"x", b"z"], pa.binary()),
        v=pa.array([[1, 2]] * 6 + [None], pa.list_(pa.int8())),
    )
    columns = read_path(path)[0].columns
    assert columns["i"][2:].tolist() == [3, 4, 5, 6, 7]
    assert columns["b"][[0, 1, 3]].tolist() == [1, 0, 1]
    assert columns["f"][0] == 0.5
    assert np.isnan(columns["n"]).all()
    assert columns["t"][0] == 1_704_067_200_000_000_001 // 256 * 256
    assert columns["d"].levels == ("x", "y", "z")
    assert columns["v"][0].tolist() == [1, 2]
    assert np.isnan(columns["v"][6]).all()
    assert [int(np.isnan(columns[name]).sum()) for name in "ibf"] == [1, 1, 1]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([{"p": 1}] * 3, "holds objects"),
        ([["p"]] * 3, "something else than numbers"),
        ([[1], [1, 2], [1]], "different lengths"),
    ],
)
def test_columns_that_are_no_columns_are_refused(root, column, words):
    with pytest.raises(InvalidDataset, match=words):
        read_path(write(root / "a.parquet", a=column))


def test_two_columns_of_one_name_are_named(root):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table([pa.array([1.0]), pa.array([2.0])], names=["twin", "twin"])
    pq.write_table(table, root / "a.parquet")
    with pytest.raises(InvalidDataset, match="names columns twice: twin"):
        read_path(root / "a.parquet")


@pytest.mark.parametrize(
    ("name", "limit", "words"),
    [
        ("MAX_FOOTER_BYTES", 10, "has a footer of"),
        ("MAX_PAGES", 1, "2 pages"),
        ("MAX_PAGE_BYTES", 7, "unpacks to too much"),
        ("MAX_CHUNK_BYTES", 7, "unpacks to too much"),
        ("MAX_CHUNK_VALUES", 9, "unpacks to too much"),
        ("MAX_TABLE_BYTES", 100, "more memory than one table may"),
    ],
)
def test_what_a_file_says_of_itself_is_bounded(root, monkeypatch, name, limit, words):
    path = write(root / "a.parquet", a=[1.0] * 10, s=["t" * 10] * 10, y=[0, 1] * 5)
    assert read_path(path)[0].rows == 10
    monkeypatch.setattr(parquet_file, name, limit)
    with pytest.raises(LimitExceeded, match=words):
        read_path(path)


def test_a_text_is_bounded(root, monkeypatch):
    path = write(root / "a.parquet", s=["t" * 10] * 10)
    monkeypatch.setattr(arrow_values, "MAX_TEXT_BYTES", 9)
    with pytest.raises(LimitExceeded, match="a text of 10 bytes; the limit is 9"):
        read_path(path)


def test_a_page_that_lies_about_its_size_is_refused(root):
    path = write(root / "a.parquet")
    content = path.read_bytes()
    for place in range(4, 40):
        path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
        with suppress(InvalidDataset, LimitExceeded):
            assert read_path(path)[0].rows == 10
