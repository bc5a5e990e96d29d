"""A figure as Mermaid, which many chats draw.

Charts are `xychart-beta`, graphs `flowchart`, counts `block-beta`. Mermaid's charts know lines and bars over
evenly spaced places, and no gaps, legend or error bars. What it cannot draw is left out under a comment that
says so; the text beside it has every number.
"""

from collections.abc import Iterator

from flow_nexus_neural.artifacts.plots.figure import Chart, Figure, Graph, Matrix, Series
from flow_nexus_neural.artifacts.plots.words import number, place, thinned

MOST_PLACES = 40
MOST_CLASSES = 12


def as_mermaid(figure: Figure) -> str:
    """One diagram for each panel, each in a fence of its own."""
    diagrams = []
    for panel in figure.panels:
        match panel:
            case Chart():
                lines = list(_chart(figure.title, panel))
            case Graph():
                lines = list(_graph(panel))
            case Matrix():
                lines = list(_matrix(panel))
        diagrams.append("\n".join(["```mermaid", *lines, "```"]))
    return "\n\n".join(diagrams)


def plain(text: str) -> str:
    """Text that can end no quotation, line or diagram."""
    kept = "".join(c if c.isprintable() and c not in '"`<>[]{}#;&%' else " " for c in text)
    return " ".join(kept.split()) or "?"


def _chart(title: str, chart: Chart) -> Iterator[str]:
    rows = thinned(sorted({x for series in chart.series for x in series.x}), MOST_PLACES)
    drawn = [series for series in chart.series if _is_whole(series, rows)]
    yield "xychart-beta"
    yield f'    title "{plain(title)}"'
    names = ", ".join(f'"{plain(place(chart.x, x))}"' for x in rows)
    yield f'    x-axis "{plain(chart.x.label)}" [{names}]'
    yield f'    y-axis "{plain(chart.y.label)}"'
    for series in drawn:
        values = dict(zip(series.x, series.y, strict=True))
        listed = ", ".join(_exact(values[x]) for x in rows)
        yield f"    %% {plain(series.name)}"
        yield f"    {'bar' if series.mark == 'bars' else 'line'} [{listed}]"
    for one in chart.references:
        if one.upright:
            yield f"    %% not drawn here: {plain(one.name)} at {number(one.value)}"
        else:
            yield f"    %% {plain(one.name)}"
            yield f"    line [{', '.join([_exact(one.value)] * len(rows))}]"
    for series in chart.series:
        if series not in drawn:
            yield f"    %% not drawn here, not every place has a value: {plain(series.name)}"


def _is_whole(series: Series, rows: list[float]) -> bool:
    values = dict(zip(series.x, series.y, strict=True))
    return bool(rows) and all(values.get(x) is not None for x in rows)


def _exact(value: float | None) -> str:
    return f"{0.0 if value is None else value:.6g}"


def _graph(graph: Graph) -> Iterator[str]:
    yield "flowchart TD"
    keys = {vertex.name: f"n{index}" for index, vertex in enumerate(graph.vertices)}
    for vertex in graph.vertices:
        told = f"{plain(vertex.name)}<br/>{plain(vertex.role)}, {plain(vertex.status)}"
        yield f'    {keys[vertex.name]}["{told}"]'
    for link in graph.links:
        if link.one not in keys or link.other not in keys:
            continue
        arrow = "---" if link.fault is None else "-.-"
        said = "broken" if link.fault else None
        if link.fault is None and link.latency_ms is not None:
            said = f"{number(link.latency_ms)} ms"
        label = f'|"{said}"|' if said else ""
        yield f"    {keys[link.one]} {arrow}{label} {keys[link.other]}"
    dead = [keys[vertex.name] for vertex in graph.vertices if vertex.working is False]
    if dead:
        yield "    classDef dead stroke:#D55E00,stroke-width:3px,stroke-dasharray:5 3"
        yield f"    class {','.join(dead)} dead"


def _matrix(matrix: Matrix) -> Iterator[str]:
    n = min(len(matrix.names), MOST_CLASSES)
    yield "block-beta"
    yield f"    columns {n + 1}"
    heads = " ".join(f'h{j}["{plain(matrix.names[j])}"]' for j in range(n))
    yield f'    corner["{plain(matrix.rows)} / {plain(matrix.columns)}"] {heads}'
    for i in range(n):
        cells = " ".join(f'c{i}x{j}["{matrix.counts[i][j]}"]' for j in range(n))
        yield f'    r{i}["{plain(matrix.names[i])}"] {cells}'
    if n < len(matrix.names):
        yield f"    %% {len(matrix.names) - n} more classes are not drawn here"
