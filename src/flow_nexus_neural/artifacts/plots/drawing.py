"""Draws a figure with matplotlib (extra `plot`), without pyplot: no global state, no window, any thread.

The only module that imports matplotlib, and only when something is drawn: it takes most of a second.
"""

import io
import textwrap
import threading
from functools import cache
from typing import TYPE_CHECKING, Literal

from flow_nexus_neural.artifacts.plots.figure import (
    Axis,
    Chart,
    Figure,
    Graph,
    Matrix,
    Panel,
    Reference,
    Series,
    Vertex,
)
from flow_nexus_neural.artifacts.plots.layout import places
from flow_nexus_neural.artifacts.plots.words import labelled
from flow_nexus_neural.errors import NotAvailable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PictureFormat = Literal["png", "svg"]
DPI = 96
WIDTH_IN = 7.6
CHART_IN = 3.4
GRAPH_IN = 4.8
NOTE_IN = 0.21
TITLE_IN = 0.5
CHARS_A_LINE = 104
LABEL_AT = 0.62
"""Along a link: links of two hubs cross in the middle, where their labels would hide each other."""
COLOURS = {
    "first": "#0072B2",
    "second": "#D55E00",
    "third": "#009E73",
    "truth": "#000000",
    "muted": "#6E6E6E",
}
"""Of Okabe and Ito, "Color Universal Design" (2008): told apart with every common colour blindness."""
DASHES = {"first": "-", "second": (0, (5, 2)), "third": (0, (1, 1.5)), "truth": "-", "muted": "--"}
MARKERS = {"first": "o", "second": "s", "third": "^", "truth": "x", "muted": "D"}
ROLE_SHAPES = {"worker": "o", "parameter_server": "s", "aggregator": "D", "validator": "^"}
ROLE_COLOURS = {
    "worker": "#56B4E9",
    "parameter_server": "#E69F00",
    "aggregator": "#CC79A7",
    "validator": "#009E73",
}
INSTALL = "pip install 'flow-nexus-neural[plot]'"

_ONE_AT_A_TIME = threading.Lock()
"""The library promises nothing to threads that draw at one time."""


def can_draw() -> bool:
    """Whether the extra `plot` is installed; does not import it."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def draw(figure: Figure, picture_format: PictureFormat) -> bytes:
    """The picture of a figure. Blocking, and slow the first time.

    Raises:
        NotAvailable: The extra `plot` is not installed.
    """
    if not can_draw():
        raise NotAvailable(
            f"a picture needs matplotlib, which is not installed where this server runs: {INSTALL}",
            hint='install it and call again, or ask for format "mermaid" or "text"',
        )
    with _ONE_AT_A_TIME:
        return _drawn(figure, picture_format)


def _drawn(figure: Figure, picture_format: PictureFormat) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Canvas
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    notes = [line for note in figure.notes for line in textwrap.wrap(note, CHARS_A_LINE)]
    heights = [GRAPH_IN if isinstance(p, Graph | Matrix) else CHART_IN for p in figure.panels]
    below_in = 0.12 + NOTE_IN * len(notes)
    total_in = TITLE_IN + sum(heights) + below_in
    # Text stays text in an SVG, which is then a tenth as large; ids do not depend on a random salt.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "flow-nexus-neural"}):
        inside = (0.01, below_in / total_in, 0.98, 1 - (below_in + TITLE_IN) / total_in)
        layout = ConstrainedLayoutEngine(rect=inside)
        canvas = Canvas(figsize=(WIDTH_IN, total_in), dpi=DPI, layout=layout)
        grid = canvas.add_gridspec(len(heights), 1, height_ratios=heights)
        for row, panel in enumerate(figure.panels):
            _draw_panel(canvas.add_subplot(grid[row, 0]), panel)
        canvas.text(
            0.5, 1 - 0.15 / total_in, _text(figure.title), ha="center", va="top", fontsize=12
        )
        canvas.text(0.02, 0.08 / total_in, _text("\n".join(notes)), va="bottom", fontsize=8.5)
        drawn = io.BytesIO()
        about = {"Date": None} if picture_format == "svg" else {"Software": None}
        canvas.savefig(drawn, format=picture_format, metadata=about)
    return drawn.getvalue()


def _draw_panel(axes: "Axes", panel: Panel) -> None:
    match panel:
        case Chart():
            _draw_chart(axes, panel)
        case Graph():
            _draw_graph(axes, panel)
        case Matrix():
            _draw_matrix(axes, panel)


def _draw_chart(axes: "Axes", chart: Chart) -> None:
    axes.set_axisbelow(True)
    axes.grid(visible=True, color="#E3E3E3", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    for series in chart.series:
        _draw_series(axes, series)
    if chart.diagonal is not None:
        axes.plot([0, 1], [0, 1], "--", color=COLOURS["muted"], label=_text(chart.diagonal))
    for reference in chart.references:
        _draw_reference(axes, reference)
    _label(axes, "x", chart.x)
    _label(axes, "y", chart.y)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8.5, framealpha=0.85, loc="best")


def _draw_series(axes: "Axes", series: Series) -> None:
    colour, points = COLOURS[series.tone], series.measured
    x, y = [p[0] for p in points], [p[1] for p in points]
    label = _text(series.name)
    if series.mark == "bars":
        bar_width = series.width
        axes.bar(
            x,
            y,
            width=0.7 if bar_width is None else bar_width,
            align="center" if bar_width is None else "edge",
            color=colour,
            alpha=0.75,
            edgecolor="white",
            linewidth=0.6,
            label=label,
        )
    else:
        marker = MARKERS[series.tone] if series.mark == "dots" or len(x) <= 40 else ""
        axes.plot(
            x,
            y,
            color=colour,
            linestyle="none" if series.mark == "dots" else DASHES[series.tone],
            drawstyle="steps-post" if series.mark == "steps" else "default",
            marker=marker,
            markersize=4.5,
            label=label,
            clip_on=series.mark != "dots",  # one that lies on the end of an axis is drawn whole
        )
    if series.low:
        _draw_uncertainty(axes, series)


def _draw_uncertainty(axes: "Axes", series: Series) -> None:
    """A band around a line, error bars at dots and bars."""
    colour = COLOURS[series.tone]
    ends = zip(series.x, series.y, series.low, series.high, strict=True)
    kept = [(x, y, low, high) for x, y, low, high in ends if y is not None]
    x = [one[0] for one in kept]
    if series.mark == "line":
        low, high = [one[2] for one in kept], [one[3] for one in kept]
        axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
        return
    below = [max(0.0, one[1] - one[2]) for one in kept]
    above = [max(0.0, one[3] - one[1]) for one in kept]
    y = [one[1] for one in kept]
    axes.errorbar(x, y, yerr=[below, above], fmt="none", ecolor=colour, elinewidth=1, capsize=2.5)


def _draw_reference(axes: "Axes", reference: Reference) -> None:
    draw_line = axes.axvline if reference.upright else axes.axhline
    draw_line(
        reference.value,
        color=COLOURS[reference.tone],
        linestyle=DASHES[reference.tone] if reference.tone != "truth" else ":",
        linewidth=1.2,
        label=_text(labelled(reference)),
    )


def _label(axes: "Axes", which: Literal["x", "y"], axis: Axis) -> None:
    from matplotlib.ticker import MaxNLocator

    own = axes.xaxis if which == "x" else axes.yaxis
    own.set_label_text(_text(axis.label))
    if axis.whole:
        own.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if axis.names:
        steep = sum(map(len, axis.names)) > 60
        own.set_ticks(range(len(axis.names)), labels=[_text(n) for n in axis.names])
        own.set_tick_params(rotation=40 if steep and which == "x" else 0)
    limits = {"left" if which == "x" else "bottom": axis.low} if axis.low is not None else {}
    if axis.high is not None:
        limits["right" if which == "x" else "top"] = axis.high
    (axes.set_xlim if which == "x" else axes.set_ylim)(**limits)  # type: ignore[arg-type]  # ends


def _draw_graph(axes: "Axes", graph: Graph) -> None:
    at = places(graph)
    for link in graph.links:
        if link.one not in at or link.other not in at:
            continue
        (x1, y1), (x2, y2) = at[link.one], at[link.other]
        broken = link.fault is not None
        axes.plot(
            [x1, x2],
            [y1, y2],
            color=COLOURS["second"] if broken else "#9A9A9A",
            linestyle=":" if broken else "-" if link.working else "--",
            linewidth=1.6 if broken else 1.0,
            zorder=1,
        )
        if len(graph.links) <= 24 and (broken or link.latency_ms is not None):
            told = "broken" if broken else f"{link.latency_ms:.2g} ms"
            axes.text(
                x1 + LABEL_AT * (x2 - x1),
                y1 + LABEL_AT * (y2 - y1),
                told,
                fontsize=7.5,
                ha="center",
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
                zorder=2,
            )
    for vertex in graph.vertices:
        _draw_vertex(axes, vertex, at[vertex.name])
    axes.set_xlim(-1.35, 1.35)
    axes.set_ylim(-1.4, 1.3)
    axes.set_axis_off()
    roles = dict.fromkeys(vertex.role for vertex in graph.vertices)
    for role in roles:
        shape, colour = ROLE_SHAPES.get(role, "h"), ROLE_COLOURS.get(role, "#BBBBBB")
        axes.plot([], [], shape, color=colour, markeredgecolor="black", label=_text(role))
    if any(vertex.working is False for vertex in graph.vertices):
        axes.plot([], [], "X", color="black", label="does not run")
    axes.legend(fontsize=8.5, loc="lower center", ncols=len(roles) + 1, bbox_to_anchor=(0.5, -0.06))


def _draw_vertex(axes: "Axes", vertex: Vertex, at: tuple[float, float]) -> None:
    dead = vertex.working is False
    axes.plot(
        *at,
        ROLE_SHAPES.get(vertex.role, "h"),
        markersize=15,
        color="white" if dead else ROLE_COLOURS.get(vertex.role, "#BBBBBB"),
        markeredgecolor=COLOURS["second"] if dead else "black",
        markeredgewidth=1.8 if dead else 0.8,
        zorder=3,
    )
    if dead:
        axes.plot(*at, "X", markersize=8, color="black", zorder=4)
    told = vertex.name if vertex.working else f"{vertex.name}\n{vertex.status}"
    axes.annotate(
        _text(told),
        at,
        xytext=(0, -12),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=8,
        zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
    )


def _draw_matrix(axes: "Axes", matrix: Matrix) -> None:
    n = len(matrix.names)
    # Shares of each row, so that a large class does not make all others pale.
    shares = [[count / max(1, sum(row)) for count in row] for row in matrix.counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    small = n > 12
    for i, row in enumerate(matrix.counts):
        for j, count in enumerate(row):
            if small and not count:
                continue
            colour = "white" if shares[i][j] > 0.55 else "black"
            size = 6 if small else 10
            axes.text(j, i, str(count), ha="center", va="center", color=colour, fontsize=size)
    labels = [_text(textwrap.shorten(name, 18, placeholder="…")) for name in matrix.names]
    steep = sum(map(len, labels)) > 60
    axes.set_xticks(range(n), labels=labels, rotation=40 if steep else 0, fontsize=8.5)
    axes.set_yticks(range(n), labels=labels, fontsize=8.5)
    axes.set_xlabel(_text(matrix.columns))
    axes.set_ylabel(_text(matrix.rows))


def _text(text: str) -> str:
    """Text as it is: no formula, and no character that the font lacks."""
    shown = "".join(c if c == "\n" or ord(c) in _glyphs() else "\ufffd" for c in text)
    return shown.replace("$", r"\$")


@cache
def _glyphs() -> frozenset[int]:
    """Code points of the default font."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())
