import gzip

import numpy as np
import pytest

from flow_nexus_neural.data.readers import csv_file, text
from flow_nexus_neural.data.table import TextColumn
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded
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
    assert columns["name"].levels == ("a, b", "N/A", "c")  # of words data/missing_words.py decides
    assert columns["name"].codes.tolist() == [0, 1, 2]


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


def test_a_csv_cell_may_hold_a_vector(root):
    path = root / "a.csv"
    path.write_text('features,y\n"[1, 2, 3]",0\n"[4, 5, 6]",1\n')
    assert read_path(path, ROWS)[0].columns["features"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_header_of_very_many_columns_is_refused_at_once(root):
    path = root / "a.csv"
    path.write_text(",".join(f"c{index}" for index in range(200_000)) + "\n1\n")
    with pytest.raises(LimitExceeded, match="199997 columns"):
        read_path(path, ROWS)


def test_a_row_of_quoted_lines_is_bounded_like_a_line(root, monkeypatch):
    monkeypatch.setattr(csv_file, "MAX_ROW_CHARS", 100)
    path = root / "a.csv"
    path.write_text('a,b\n"x",1\n' + '"\n' + '","\n' * 60 + '"\n')
    with pytest.raises(LimitExceeded, match="row of more than 100 characters"):
        read_path(path, ROWS)


def test_a_vector_cell_that_is_missing_or_comes_late_is_understood(root, monkeypatch):
    monkeypatch.setattr(csv_file, "BLOCK_CELLS", 4)
    path = root / "a.csv"
    path.write_text('v,y\n,0\nNA,1\n"[1, 2]",0\n,1\n"[3, 4]",0\n')
    vectors = read_path(path, ROWS)[0].columns["v"]
    assert np.isnan(vectors).all(axis=1).tolist() == [True, True, False, True, False]
    assert vectors[4].tolist() == [3, 4]


@pytest.mark.parametrize("mark", ["\t", ";", "|", " "])
def test_every_separator_is_read_in_numbers_and_in_texts(root, mark):
    path = root / "a.csv"
    path.write_text(f"x{mark}y\n1{mark}2.5\n3{mark}4\n")
    assert read_path(path, ROWS)[0].columns["y"].tolist() == [2.5, 4]
    path.write_text(f"x{mark}y\n1{mark}oak\n3{mark}elm\n")
    assert read_path(path, ROWS)[0].columns["y"].levels == ("oak", "elm")


def test_a_file_without_names_loses_no_row(root):
    path = root / "a.csv"
    path.write_text("5.1,3.5,setosa\n4.9,3.0,setosa\n7.0,3.2,versicolor\n")
    table = read_path(path, ROWS)[0]
    assert table.columns["f0"].tolist() == [5.1, 4.9, 7.0]
    assert "the columns are called f0 to f2" in table.remarks[0]


def test_lines_before_the_rows_are_skipped_and_errors_count_them(root):
    path = root / "a.csv"
    path.write_text("# about\n# a,b\n1,2\n3,4\n")
    assert read_path(path, ROWS)[0].columns["b"].tolist() == [2, 4]
    path.write_text("# about\n# a,b\n1,oak\n3,elm\n5\n")
    with pytest.raises(InvalidDataset, match="near line 5 has 1 fields, the header has 2"):
        read_path(path, ROWS)


def test_a_download_of_two_symbols_becomes_rows_per_symbol(root):
    path = root / "a.csv"
    rows = "".join(f"2024-01-{k:02d},{k}.5,{10 * k}.5,{k}\n" for k in range(1, 9))
    path.write_text("Price,Close,Close,Volume\nTicker,AAA,BBB,AAA\nDate,,,\n" + rows)
    table = read_path(path, ROWS)[0]
    assert list(table.columns) == ["Date", "Close", "Volume", "symbol"]
    assert (table.rows, table.columns["symbol"].levels) == (16, ("AAA", "BBB"))
    assert table.columns["Close"].tolist() == [k + 0.5 for k in range(1, 9)] + [
        10 * k + 0.5 for k in range(1, 9)
    ]


def test_symbols_keep_every_digit(root):
    path = root / "a.csv"
    path.write_text("symbol,a\n000001,1\n9007199254740993,2\n9007199254740992,3\n")
    assert read_path(path, ROWS)[0].columns["symbol"].levels == (
        "000001",
        "9007199254740993",
        "9007199254740992",
    )


def test_points_between_thousands_keep_their_spelling_beside_decimal_commas(root):
    path = root / "a.csv"
    path.write_text("price;sold;share\n1,5;50.123;1.5\n2,25;49.500;2.5\n0,5;51.001;0.5\n")
    columns = read_path(path, ROWS)[0].columns
    assert columns["sold"].levels == ("50.123", "49.500", "51.001")
    assert columns["share"].levels == ("1.5", "2.5", "0.5")
    path.write_text("price;sold\n1.5;50.123\n2.25;49.500\n")
    assert read_path(path, ROWS)[0].columns["sold"].tolist() == [50.123, 49.5]


def test_lines_above_the_names_are_left_out_with_a_word(root):
    path = root / "a.csv"
    path.write_text("https://www.example.org\nunix,close,label\n1,2.5,up\n2,3.5,down\n3,1.5,up\n")
    table = read_path(path, ROWS)[0]
    assert table.columns["close"].tolist() == [2.5, 3.5, 1.5]
    assert table.remarks == ("left out, being no rows: line 1 ('https://www.example.org')",)


def test_ids_of_many_digits_keep_every_one_in_a_file_of_numbers_only(root):
    ids = [9007199254740993 + 2 * n for n in range(40)]
    path = root / "ids.csv"
    path.write_text("id,a,y\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in ids))
    column = read_path(path, ROWS)[0].columns["id"]
    assert isinstance(column, TextColumn)
    assert [column.levels[code] for code in column.codes] == [str(i) for i in ids]
