"""One figure, drawn four ways."""

import subprocess
import sys

import pytest

from flow_nexus_neural.artifacts.plots import drawing
from flow_nexus_neural.artifacts.plots.figure import (
    Axis,
    Chart,
    Figure,
    Graph,
    Link,
    Matrix,
    Reference,
    Series,
    Vertex,
)
from flow_nexus_neural.artifacts.plots.layout import places
from flow_nexus_neural.artifacts.plots.mermaid import as_mermaid
from flow_nexus_neural.artifacts.plots.rendering import render, usual_format
from flow_nexus_neural.artifacts.plots.words import in_words
from flow_nexus_neural.errors import NotAvailable

CURVE = Chart(
    Axis("round", whole=True),
    Axis("loss (nats)"),
    (
        Series("train", (1.0, 2.0, 3.0), (0.5, 0.25, 0.125)),
        Series("validation", (1.0, 2.0, 3.0), (0.75, None, 0.5), tone="second"),
    ),
    (Reference("baseline", 0.6), Reference("best", 3.0, upright=True)),
)
FIGURE = Figure("A curve", (CURVE,), ("A note.",))


def graph(hub, *links, n=4):
    vertices = tuple(Vertex(f"v{k}", "worker", "healthy", working=True) for k in range(n))
    return Graph(vertices, tuple(Link(*pair) for pair in links), hub)


def test_words_have_every_number_and_a_dash_where_none_was_measured():
    words = in_words(FIGURE, full=True).split("\n")
    assert words[:2] == ["A curve", "A note."]
    assert words[-3:] == ["1 | 0.5 | 0.75", "2 | 0.25 | -", "3 | 0.125 | 0.5"]
    assert "train: first 0.5, last 0.125, lowest 0.125 at 3, highest 0.5 at 1" in words


def test_words_say_the_value_of_a_reference_once():
    best = Reference("best round", 8.0, upright=True)
    half = Reference("p50", 1.0934, upright=True, unit="ms")
    chart = Chart(Axis("x"), Axis("y"), (Series("s", (1.0,), (2.0,)),), (best, half))
    words = in_words(Figure("t", (chart,)), full=True).split("\n")
    assert words[2:4] == ["best round: 8", "p50: 1.093 ms"]


def test_names_with_line_breaks_or_bars_break_no_table():
    matrix = Matrix("class", "decided", ("a\nb\u2028c", "d|e"), ((3, 1), (0, 4)))
    words = in_words(Figure("t", (matrix,)), full=True).split("\n")
    assert words[2:] == ["class \\ decided | a b c | d\\|e", "a b c | 3 | 1", "d\\|e | 0 | 4"]


def test_short_words_thin_long_series_and_say_so():
    long = Series("train", tuple(map(float, range(100))), tuple(map(float, range(100))))
    figure = Figure("t", (Chart(Axis("round"), Axis("y"), (long,)),))
    short = in_words(figure, full=False)
    assert "12 of 100 points:" in short
    assert short.split("\n")[-1] == "99 | 99"
    assert "points:" not in in_words(figure, full=True)


def test_mermaid_draws_whole_series_and_says_which_it_leaves_out():
    diagram = as_mermaid(FIGURE).split("\n")
    assert "    line [0.5, 0.25, 0.125]" in diagram
    assert "    line [0.6, 0.6, 0.6]" in diagram
    assert "    %% not drawn here, not every place has a value: validation" in diagram
    assert "    %% not drawn here: best at 3" in diagram


def test_counts_are_blocks_in_mermaid():
    figure = Figure("m", (Matrix("class", "decided", ("a", "b"), ((3, 1), (0, 4))),))
    assert '    r0["a"] c0x0["3"] c0x1["1"]' in as_mermaid(figure).split("\n")


def test_a_ring_is_a_circle_a_star_has_its_hub_inside_and_a_hierarchy_has_rows():
    around = places(graph(None, ("v0", "v1")))
    assert {round(x * x + y * y, 9) for x, y in around.values()} == {1.0}
    star = places(graph("v0", ("v0", "v1"), ("v0", "v2"), ("v0", "v3")))
    assert star["v0"] == (0.0, 0.0)
    rows = places(graph("v0", ("v0", "v1"), ("v1", "v2")))
    assert [rows[f"v{k}"][1] for k in range(4)] == [1.0, 1 - 2 / 3, 1 - 4 / 3, -1.0]


def test_equal_figures_are_equal_pictures():
    first, second = (render(FIGURE, "svg").content for _ in range(2))
    assert first == second
    assert b"loss (nats)" in first


def test_without_the_library_a_picture_is_an_error_with_the_command_and_mermaid_is_usual(
    monkeypatch,
):
    assert usual_format() == "png"
    monkeypatch.setattr(drawing, "can_draw", lambda: False)
    monkeypatch.setattr("flow_nexus_neural.artifacts.plots.rendering.can_draw", lambda: False)
    assert usual_format() == "mermaid"
    with pytest.raises(NotAvailable, match=r"pip install 'flow-nexus-neural\[plot\]'"):
        render(FIGURE, "png")
    assert render(FIGURE, "mermaid").text == in_words(FIGURE, full=False)


def test_the_engine_is_imported_without_the_library():
    code = "import sys, flow_nexus_neural.engine.engine; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
