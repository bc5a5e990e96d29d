import base64

import pytest

from flow_nexus_neural.engine.reports import PlotReport
from flow_nexus_neural.errors import LimitExceeded
from flow_nexus_neural.server.shown import MAX_PICTURE_BYTES, MAX_TEXT_BYTES, Shown


def plot(plot_format, content=b"drawn", path=None):
    return PlotReport(
        cluster_id="dnc",
        kind="latency",
        format=plot_format,
        content=content,
        text="in words",
        path=path,
        sha256=None if path is None else "00" * 32,
    )


def test_a_picture_comes_first_then_the_words_and_no_structure_beside_it():
    result = Shown.of(plot("png")).with_warnings(["a remark"]).result
    assert result.structured_content is None
    picture, words, remark = result.content
    assert (picture.type, base64.b64decode(picture.data)) == ("image", b"drawn")
    assert (words.text, remark.text) == ("in words", "warning: a remark")


@pytest.mark.parametrize(
    ("plot_format", "limit"), [("png", MAX_PICTURE_BYTES), ("svg", MAX_TEXT_BYTES)]
)
def test_what_is_too_large_for_a_reply_is_refused_unless_it_is_in_a_file(plot_format, limit):
    with pytest.raises(LimitExceeded, match="path"):
        Shown.of(plot(plot_format, b"x" * (limit + 1)))
    (words,) = Shown.of(plot(plot_format, b"x" * (limit + 1), path="/data/a")).texts
    assert "written: /data/a" in words


def test_text_is_not_said_twice():
    assert Shown.of(plot("text")).texts == ("drawn",)
    assert Shown.of(plot("mermaid")).texts == ("drawn", "in words")
