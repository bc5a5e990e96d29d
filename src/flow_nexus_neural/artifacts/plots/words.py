"""A figure in words and numbers, for whoever cannot see it."""

from collections.abc import Iterator, Sequence

from flow_nexus_neural.artifacts.plots.figure import (
    Axis,
    Chart,
    Figure,
    Graph,
    Link,
    Matrix,
    Reference,
    Series,
)

ROWS_IN_FULL = 200
ROWS_IN_SHORT = 12
LINKS_IN_SHORT = 12
CELLS_IN_SHORT = 36


def in_words(figure: Figure, *, full: bool) -> str:
    """The title, the notes and the numbers of every panel.

    Args:
        figure: What is shown.
        full: Every point, up to 200 of a series; else at most 12, and what sums them up.
    """
    lines = [on_one_line(text) for text in (figure.title, *figure.notes)]
    for panel in figure.panels:
        match panel:
            case Chart():
                lines += _chart(panel, full=full)
            case Graph():
                lines += _graph(panel, full=full)
            case Matrix():
                lines += _matrix(panel, full=full)
    return "\n".join(lines)


def number(value: float | None) -> str:
    """A value to four significant digits; a dash where nothing was measured."""
    if value is None:
        return "-"
    return f"{int(value)}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def labelled(one: Reference) -> str:
    """A reference with its value, said once."""
    return f"{one.name}: {number(one.value)}{one.unit and f' {one.unit}'}"


def on_one_line(text: str) -> str:
    """Text that breaks no line, as in the picture."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()) or "?"


def _cell_name(text: str) -> str:
    """A name that breaks no table either."""
    return on_one_line(text).replace("|", r"\|")


def place(axis: Axis, x: float) -> str:
    """A place on an axis: its name, if places have names there."""
    if axis.names and x == int(x) and 0 <= x < len(axis.names):
        return _cell_name(axis.names[int(x)])
    return number(x)


def _chart(chart: Chart, *, full: bool) -> Iterator[str]:
    for series in chart.series:
        yield _summed_up(chart.x, series)
    yield from map(labelled, chart.references)
    rows = sorted({x for series in chart.series for x in series.x})
    if not rows:
        return
    shown = thinned(rows, ROWS_IN_FULL if full else ROWS_IN_SHORT)
    if len(shown) < len(rows):
        yield f"{len(shown)} of {len(rows)} points:"
    yield " | ".join([chart.x.label, *(_head(series) for series in chart.series)])
    for x in shown:
        cells = [_cell(series, x) for series in chart.series]
        yield " | ".join([_row_name(chart, x), *cells])


def _row_name(chart: Chart, x: float) -> str:
    widths = {series.width for series in chart.series if series.width is not None}
    if len(widths) == 1 and all(series.mark == "bars" for series in chart.series):
        return f"{number(x)} to {number(x + widths.pop())}"
    return place(chart.x, x)


def _head(series: Series) -> str:
    return f"{series.name} (low to high)" if series.low else series.name


def _cell(series: Series, x: float) -> str:
    if x not in series.x:
        return "-"
    index = series.x.index(x)
    said = number(series.y[index])
    if series.low and series.y[index] is not None:
        said += f" ({number(series.low[index])} to {number(series.high[index])})"
    return said


def _summed_up(axis: Axis, series: Series) -> str:
    points = series.measured
    if not points:
        return f"{series.name}: not measured"
    if len(points) == 1:
        return f"{series.name}: {number(points[0][1])} at {place(axis, points[0][0])}"
    if series.mark == "bars":
        total = sum(y for _, y in points)
        return f"{series.name}: {len(points)} values, sum {number(total)}"
    lowest, highest = min(points, key=_value), max(points, key=_value)
    return (
        f"{series.name}: first {number(points[0][1])}, last {number(points[-1][1])}, lowest"
        f" {number(lowest[1])} at {place(axis, lowest[0])}, highest {number(highest[1])} at"
        f" {place(axis, highest[0])}"
    )


def _value(point: tuple[float, float]) -> float:
    return point[1]


def _graph(graph: Graph, *, full: bool) -> Iterator[str]:
    for vertex in graph.vertices:
        yield f"{vertex.name}: {vertex.role}, {vertex.status}"
    # What does not work is told first: it must not be among what is left out.
    links = sorted(graph.links, key=lambda link: link.fault is None)
    shown = links if full else links[:LINKS_IN_SHORT]
    for link in shown:
        yield f"{link.one} - {link.other}: {_of_link(link)}"
    if len(shown) < len(links):
        which = " that work" if all(link.working for link in links[len(shown) :]) else ""
        yield f"and {len(links) - len(shown)} more links{which}"


def _of_link(link: Link) -> str:
    if link.fault is not None:
        return link.fault
    latency = "latency not measured" if link.latency_ms is None else f"{number(link.latency_ms)} ms"
    return latency if link.working else f"not known whether it works, {latency}"


def _matrix(matrix: Matrix, *, full: bool) -> Iterator[str]:
    hits = sum(row[i] for i, row in enumerate(matrix.counts))
    total = sum(map(sum, matrix.counts))
    yield f"on the diagonal: {hits} of {total}"
    names = [_cell_name(name) for name in matrix.names]
    if len(names) ** 2 <= CELLS_IN_SHORT or full:
        yield " | ".join([f"{matrix.rows} \\ {matrix.columns}", *names])
        for name, row in zip(names, matrix.counts, strict=True):
            yield " | ".join([name, *map(str, row)])
        return
    for count, one, other in _largest_errors(matrix):
        yield f"{matrix.rows} {one}, {matrix.columns} {other}: {count}"


def _largest_errors(matrix: Matrix) -> list[tuple[int, str, str]]:
    errors = [
        (count, _cell_name(matrix.names[i]), _cell_name(matrix.names[j]))
        for i, row in enumerate(matrix.counts)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(errors, key=lambda error: -error[0])[:ROWS_IN_SHORT]


def thinned(rows: Sequence[float], most: int) -> list[float]:
    """At most so many of them, evenly, with both ends."""
    if len(rows) <= most:
        return list(rows)
    step = (len(rows) - 1) / (most - 1)
    return [rows[round(index * step)] for index in range(most)]
