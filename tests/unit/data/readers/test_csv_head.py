import pytest

from flow_nexus_neural.data.readers.csv_head import (
    BLANKS,
    HEAD_CHARS,
    HEAD_LINES,
    first_lines,
    read_head,
    rows_of_lines,
    twice,
)


def head_of(text, separator=None):
    return read_head(text.splitlines(keepends=True), separator)


ROWS = [(k * 7 % 11, k * 5 % 13 + 0.5, "ab"[k % 2]) for k in range(20)]


@pytest.mark.parametrize("mark", ["\t", ";", "|", ",", " "])
def test_the_separator_is_the_one_that_divides_all_lines_alike(mark):
    lines = [("x", "y", "label"), *ROWS]
    head = head_of("\n".join(mark.join(map(str, row)) for row in lines) + "\n")
    assert (head.names, head.separator, head.lines) == (["x", "y", "label"], mark, 1)
    assert head.remarks == ()


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a;b;c\n0,1;-0,2;1\n1,5;2,5;0\n", ";"),
        ('a,b\n1,"x; y"\n2,"z; w"\n', ","),
        ("name,genres\nHeat,Action|Crime\nJaws,Action|Horror\n", ","),
        ("sep=;\na;b\n1;2\n", ";"),
        ("a   b  c\n1  2 3\n 4 5   6 \n", BLANKS),
        ("open time,close\n2024-01-01 10:00,1\n2024-01-01 11:00,2\n", ","),
        ("a,b\n1\n2,3,4\n", ","),
    ],
)
def test_marks_within_cells_do_not_mislead(text, separator):
    assert head_of(text).separator == separator


def test_a_given_separator_is_taken():
    assert head_of("a,b\tc\n1,2\t3\n", "\t").names == ["a,b", "c"]


def test_blanks_at_both_ends_and_in_runs_are_one_separator():
    assert list(rows_of_lines(["  1   2 \n"], BLANKS)) == [["1", "2"]]


@pytest.mark.parametrize(
    "text",
    [
        "5.1,3.5,setosa\n4.9,3.0,setosa\n7.0,3.2,versicolor\n",
        "ACME,20240101,100.3,1.2\nACME,20240102,100.4,1.3\n",
        "0.1,,1\n0.2,1,0\n0.3,2,1\n",
        "2024-01-01 00:00:00,99.5,99.5,100.1\n2024-01-01 01:00:00,99.5,99.5,100.2\n",
        "1,2\n3,4\n",
        "p,x,s\np,x,s\ne,x,s\n",
        "0,1\n1,1\n0,1\n",
        "1,2,4\n2,3,5\n",
    ],
)
def test_a_first_line_of_data_is_data_and_it_is_said(text):
    head = head_of(text)
    width = text.split("\n")[0].count(",") + 1
    assert (head.names, head.lines) == ([f"f{k}" for k in range(width)], 0)
    assert head.remarks[0].startswith(
        "the first line holds data and no names: the columns are called f0 to"
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b\n1,2\n3,4\n", ["a", "b"]),
        ("0,1,2\n0.5,0.25,1\n-0.3,0.09,0\n", ["0", "1", "2"]),
        ("country,2019,2020\nPeru,3.4,5.5\nChad,3.5,5.6\n", ["country", "2019", "2020"]),
        ("a,label\nred,up\nblue,down\n", ["a", "label"]),
        ("a,b\n", ["a", "b"]),
        ("<DATE>,<CLOSE>\n2024.01.01,5\n2024.01.02,6\n", ["DATE", "CLOSE"]),
        (",noise\n3,1\n4,2\n", ["unnamed_0", "noise"]),
        ('"u","v"\n"1",0.5,2\n"2",0.25,3\n', ["unnamed_0", "u", "v"]),
        ("u,v\n0.5,2,\n0.25,3,\n", ["u", "v", "unnamed_2"]),
    ],
)
def test_a_first_line_of_names_is_known(text, names):
    head = head_of(text)
    assert (head.names, head.lines, head.remarks) == (names, 1, ())


@pytest.mark.parametrize(
    ("text", "names", "lines"),
    [
        ("# a,b,y\n1.0e+00,2.0,0\n3.0,4.0,1\n", ["a", "b", "y"], 1),
        ("#a b y\n1.0 2.0 0\n3.0 4.0 1\n", ["a", "b", "y"], 1),
        ("# made by a tool\n# on Monday\n# a,b\n1,2\n3,4\n", ["a", "b"], 3),
        ("# made by a tool\na,b\n1,2\n3,4\n", ["a", "b"], 2),
        ("#,Name,HP\n1,Bulba,45\n2,Ivy,60\n", ["#", "Name", "HP"], 1),
        ("\n# a,b\n\n1,2\n3,4\n", ["a", "b"], 2),
    ],
)
def test_comments_may_hold_the_names(text, names, lines):
    head = head_of(text)
    assert (head.names, head.lines) == (names, lines)


PRICES = "2024-01-01,1.5,2.5,10\n2024-01-02,1.6,2.6,11\n2024-01-03,1.7,2.7,12\n"


@pytest.mark.parametrize("last", ["Date,,,\n", ""])
def test_lines_of_quantities_and_symbols_are_told_apart(last):
    head = head_of("Price,Close,Close,Volume\nTicker,AAA,BBB,AAA\n" + last + PRICES)
    first = "Date" if last else "unnamed_0"
    assert head.names == [first, "Close", "Close", "Volume"]
    assert head.symbols == ["", "AAA", "BBB", "AAA"]
    assert head.lines == (3 if last else 2)
    assert list(twice(head.names, head.symbols)) == []
    turned = head_of("Ticker,AAA,BBB,AAA\nPrice,Close,Close,Volume\n" + last + PRICES)
    assert (turned.names, turned.symbols) == (head.names, head.symbols)


def test_other_lines_of_names_are_joined_where_the_first_does_not_tell_columns_apart():
    head = head_of("time,pump,pump,n\n,speed,force,hz\n" + PRICES)
    assert head.names == ["time", "pump speed", "pump force", "n hz"]
    assert head.remarks == ("lines 1 to 2 hold names, which are joined",)


def test_units_below_names_are_left_out_and_it_is_said():
    head = head_of("time,speed,force,n\ns,m/s,N,hz\n" + PRICES)
    assert (head.names, head.lines) == (["time", "speed", "force", "n"], 2)
    assert head.remarks == ("lines 1 to 2 hold names: those of line 1 are taken",)


def test_a_row_with_gaps_is_no_line_of_names():
    head = head_of("date,a,b,c\n2024-01-01,,,\n2024-01-02,NA,,\n" + PRICES)
    assert (head.names, head.lines) == (["date", "a", "b", "c"], 1)


def test_an_empty_file_has_no_head_and_a_long_one_a_short_one():
    assert head_of("\n \n") is None
    assert len(first_lines("a,b\n" for _ in range(1_000))) == HEAD_LINES
    assert len(first_lines("a" * HEAD_CHARS for _ in range(9))) == 1


def test_names_that_occur_twice_are_found_unless_their_symbols_differ():
    assert list(twice(["a", "b", "a"], None)) == ["a"]
    assert list(twice(["a", "b", "a"], ["", "x", "x"])) == []
