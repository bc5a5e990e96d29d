import gzip
import json
import sys
import zipfile

import numpy as np
import pytest

from flow_nexus_neural.data.readers import csv_file, npz_file, text
from flow_nexus_neural.data.table import TextColumn
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded, NotAvailable
from tests.unit.data.reading import read_path

ROWS = 1_000_000


def test_a_csv_of_numbers_is_read_exactly(root):
    path = root / "a.csv"
    path.write_text("t,x\n1790000000001,0.1\n1790000000002,-3e-5\n")
    table, target = read_path(path, ROWS)
    assert target is None
    assert table.columns["t"].tolist() == [1790000000001, 1790000000002]
    assert table.columns["x"].tolist() == [0.1, -3e-5]


def test_missing_words_quotes_and_a_byte_order_mark_are_understood(root):
    path = root / "a.csv"
    path.write_bytes('\ufeffx,name\n1,"a, b"\n,N/A\nnull,c\n'.encode())
    columns = read_path(path, ROWS)[0].columns
    assert np.isnan(columns["x"]).tolist() == [False, True, True]
    assert isinstance(columns["name"], TextColumn)
    assert columns["name"].levels == ("a, b", "c")
    assert columns["name"].codes.tolist() == [0, -1, 1]


def test_a_column_whose_first_text_comes_late_keeps_all_its_texts(root, monkeypatch):
    monkeypatch.setattr(csv_file, "BLOCK_CELLS", 4)
    path = root / "a.csv"
    path.write_text("x,y\n" + "".join(f"{i:02d},{i}\n" for i in range(10)) + "oak,10\n")
    columns = read_path(path, ROWS)[0].columns
    texts = [columns["x"].levels[code] for code in columns["x"].codes]
    assert texts == [f"{i:02d}" for i in range(10)] + ["oak"]
    assert columns["y"].tolist() == list(range(11))


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_tab_separated_text_is_read_plain_and_packed(root, name):
    path = root / name
    text = b"x\ty\n1\t2\n3\t4\n"
    path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    columns = read_path(path, ROWS)[0].columns
    assert [columns[name].tolist() for name in ("x", "y")] == [[1, 3], [2, 4]]


def test_a_semicolon_is_found_as_delimiter(root):
    path = root / "a.csv"
    path.write_text("x;y\n1;2\n")
    assert list(read_path(path, ROWS)[0].columns) == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("x,y\n", "no rows"),
        ("1,2\n3,4\n", "no header"),
        ("x,x\n1,2\n", "twice"),
        ("x,y\n1,2\n3\n", "near line 3 has 1 fields, the header has 2"),
    ],
)
def test_a_broken_csv_is_refused_with_its_defect(root, text, words):
    path = root / "a.csv"
    path.write_text(text)
    with pytest.raises(InvalidDataset, match=words):
        read_path(path, ROWS)


def test_text_that_is_not_utf_8_is_refused(root):
    path = root / "a.csv"
    path.write_bytes(b"x,y\n1,\xff\xfe\n")
    with pytest.raises(InvalidDataset, match="not UTF-8"):
        read_path(path, ROWS)


def test_a_torn_gzip_file_is_refused(root):
    path = root / "a.csv.gz"
    packed = gzip.compress(b"x,y\n" + b"1.25,2.5\n" * 5000)
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InvalidDataset, match="cannot be read"):
        read_path(path, ROWS)


def test_a_packed_file_that_unpacks_too_far_is_refused(root, monkeypatch):
    monkeypatch.setattr(text, "MAX_FILE_BYTES", 10_000)
    path = root / "a.csv.gz"
    path.write_bytes(gzip.compress(b"x,y\n" + b"1,2\n" * 5_000))
    assert path.stat().st_size < 10_000
    with pytest.raises(LimitExceeded, match="unpacks to more than"):
        read_path(path, ROWS)


def test_reading_stops_at_the_row_limit(root):
    path = root / "a.csv"
    path.write_text("x,y\n" + "1,2\n" * 101)
    with pytest.raises(LimitExceeded, match="more than 100 rows"):
        read_path(path, 100)


def test_json_lines_with_lists_and_absent_keys_become_columns(root):
    path = root / "a.jsonl"
    records = [{"v": [1, 2, None], "a": 1}, {"v": [4, 5, 6], "b": True}]
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n\n")
    columns = read_path(path, ROWS)[0].columns
    assert columns["v"].shape == (2, 3)
    assert np.isnan(columns["v"][0, 2])
    assert np.isnan(columns["a"][1])
    assert columns["b"][1] == 1


def test_json_lines_name_the_line_that_is_broken(root):
    path = root / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": NaN}\n')
    with pytest.raises(InvalidDataset, match=r"line 2 .* NaN"):
        read_path(path, ROWS)


def test_an_npz_gives_names_symbol_and_label(root):
    path = root / "a.npz"
    np.savez(
        path,
        X=np.arange(6.0).reshape(3, 2),
        y=np.array([0, 1, 0]),
        feature_names=np.array(["p", "q"]),
        symbol=np.array(["B", "A", "B"]),
        timestamp=np.array(["2024-01-01", "2024-01-02", "2024-01-03"], dtype="datetime64[D]"),
    )
    table, target = read_path(path, ROWS)
    assert target == "y"
    assert list(table.columns) == ["p", "q", "symbol", "timestamp", "y"]
    assert table.columns["timestamp"][1] - table.columns["timestamp"][0] == 86_400_000


def test_pickled_objects_are_never_loaded(root):
    path = root / "a.npz"
    np.savez(path, X=np.array([[1], [2]], dtype=object), y=np.array([0, 1]))
    with pytest.raises(InvalidDataset, match="plain array"):
        read_path(path, ROWS)


def test_an_archive_that_unpacks_too_far_is_refused(root, monkeypatch):
    monkeypatch.setattr(npz_file, "MAX_FILE_BYTES", 50_000)
    path = root / "a.npz"
    np.savez_compressed(path, X=np.zeros((10_000, 4)), y=np.zeros(10_000))
    with pytest.raises(LimitExceeded, match="unpacks to"):
        read_path(path, ROWS)


def test_something_else_named_npz_is_refused(root):
    path = root / "a.npz"
    path.write_bytes(b"not a zip")
    with pytest.raises(InvalidDataset, match="not an archive"):
        read_path(path, ROWS)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", b"torn")
    with pytest.raises(InvalidDataset):
        read_path(path, ROWS)


def test_a_plain_npy_has_its_target_last(root):
    path = root / "a.npy"
    np.save(path, np.arange(8.0).reshape(2, 4))
    table, target = read_path(path, ROWS)
    assert target == "target"
    assert table.columns["target"].tolist() == [3, 7]
    assert list(table.columns) == ["f0", "f1", "f2", "target"]


def test_an_unknown_suffix_lists_the_formats(root):
    path = root / "a.xlsx"
    path.write_bytes(b"x")
    with pytest.raises(InvalidDataset, match="no known data format") as caught:
        read_path(path, ROWS)
    assert ".csv.gz" in caught.value.hint


def test_a_csv_cell_may_hold_a_vector(root):
    path = root / "a.csv"
    path.write_text('features,y\n"[1, 2, 3]",0\n"[4, 5, 6]",1\n')
    assert read_path(path, ROWS)[0].columns["features"].tolist() == [[1, 2, 3], [4, 5, 6]]


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


def test_an_array_that_claims_more_than_its_file_holds_is_refused(root):
    path = root / "a.npy"
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3), }"
    header = header.ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64)
    with pytest.raises((InvalidDataset, LimitExceeded)):
        read_path(path, ROWS)


def test_a_header_of_very_many_columns_is_refused_at_once(root):
    path = root / "a.csv"
    path.write_text(",".join(f"c{index}" for index in range(200_000)) + "\n1\n")
    with pytest.raises(LimitExceeded, match="199997 columns"):
        read_path(path, ROWS)


@pytest.mark.parametrize("damage", [b"]", b'"', b"(", b"\xff"])
def test_a_damaged_array_header_is_refused(root, damage):
    path = root / "a.npy"
    np.save(path, np.arange(6.0).reshape(3, 2))
    content = path.read_bytes()
    for place in (20, 40, 90):
        path.write_bytes(content[:place] + damage + content[place + 1 :])
        with pytest.raises(InvalidDataset, match="plain array"):
            read_path(path, ROWS)
