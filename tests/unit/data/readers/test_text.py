import gzip
import zlib

import pytest

from flow_nexus_neural.data.opening import DataRoots
from flow_nexus_neural.data.readers import text
from flow_nexus_neural.data.readers.text import chunks, text_lines, unpacked
from flow_nexus_neural.errors import LimitExceeded


@pytest.fixture
def opened(root):
    """Opens a file of the given content for the rest of the test."""
    contexts = []

    def run(content: bytes, name: str = "a.csv.gz"):
        (root / name).write_bytes(content)
        contexts.append(DataRoots([root]).open(root / name))
        return contexts[-1].__enter__()

    yield run
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"a,b\n1,2\n"),
        gzip.compress(b"a,b\n") + gzip.compress(b"1,2\n"),
        gzip.compress(b"a,b\n1,2\n") + bytes(100),
        gzip.compress(b"a,b\n") + gzip.compress(b"") + gzip.compress(b"1,2\n") + bytes(7),
    ],
)
def test_packed_files_of_one_or_more_members_are_unpacked(opened, content):
    file = opened(content)
    assert unpacked(file).read() == b"a,b\n1,2\n"
    assert list(text_lines(file)) == ["a,b\n", "1,2\n"]


@pytest.mark.parametrize("cut", [5, 12, 25])
def test_a_packed_file_that_ends_early_is_an_error(opened, cut):
    with pytest.raises(EOFError):
        unpacked(opened(gzip.compress(b"a,b\n1,2\n" * 10)[:cut])).read()


def test_what_follows_a_packed_file_is_not_ignored(opened):
    with pytest.raises(zlib.error):
        unpacked(opened(gzip.compress(b"a,b\n") + b"more")).read()


def test_unpacking_stops_at_the_limit(opened, monkeypatch):
    monkeypatch.setattr(text, "MAX_FILE_BYTES", 1_000_000)
    stream = unpacked(opened(gzip.compress(bytes(3_000_000))))
    with pytest.raises(LimitExceeded, match="unpacks to more than 1000000"):
        stream.read()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_do_anywhere_and_keep_their_ends(opened, end):
    content = f"\ufeffa,é{end}1,2{end}".encode()
    assert list(text_lines(opened(content, "a.csv"))) == [f"a,é{end}", f"1,2{end}"]


def test_a_line_is_bounded_before_it_is_read_to_its_end(opened):
    with pytest.raises(LimitExceeded, match="line of more than 10 characters"):
        list(text_lines(opened(b"x" * 10_000, "a.csv"), 10))
    assert list(text_lines(opened(b"x" * 8 + b"\n", "a.csv"), 10)) == ["x" * 8 + "\n"]


def test_chunks_are_bounded_in_lines_and_in_text(monkeypatch):
    monkeypatch.setattr(text, "CHUNK_CHARS", 10)
    assert list(chunks(["aaaa"] * 5, 2)) == [["aaaa"] * 2, ["aaaa"] * 2, ["aaaa"]]
    assert list(chunks(["aaaa"] * 5, 9)) == [["aaaa"] * 3, ["aaaa"] * 2]
