"""What a figure shows, as data: every drawing of it, its Mermaid and its text are made of this alone."""

from dataclasses import dataclass, field
from typing import Literal

Mark = Literal["line", "dots", "bars", "steps"]
Tone = Literal["first", "second", "third", "truth", "muted"]
"""Colours by meaning: pictures choose ones that the colour-blind can tell apart."""


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        label: With the unit, if it has one.
        whole: Whether it counts things, so that only integers are marked.
        low, high: Its ends; None where the points decide.
        names: Of the places 0, 1, 2 ... of an axis without numbers.
    """

    label: str
    whole: bool = False
    low: float | None = None
    high: float | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """Values that belong together.

    Attributes:
        x: Places on the horizontal axis; left edges, for bars that have a `width`.
        y: Values; None where nothing was measured.
        low, high: By point, the ends of what was measured of its uncertainty; empty where it was not.
        width: Of bars, in units of the horizontal axis; None for one bar at each named place.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    mark: Mark = "line"
    tone: Tone = "first"
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    width: float | None = None

    @property
    def measured(self) -> list[tuple[float, float]]:
        """Points that have a value."""
        return [(x, y) for x, y in zip(self.x, self.y, strict=True) if y is not None]


@dataclass(frozen=True)
class Reference:
    """A value to compare with, drawn across the whole chart; `upright` where it is one of the x axis.

    Its name has no number: every form adds the value, and `unit`, if it has one.
    """

    name: str
    value: float
    upright: bool = False
    tone: Tone = "muted"
    unit: str = ""


@dataclass(frozen=True)
class Chart:
    """Series over one pair of axes; `diagonal` draws where both are equal, under that name."""

    x: Axis
    y: Axis
    series: tuple[Series, ...]
    references: tuple[Reference, ...] = ()
    diagonal: str | None = None


@dataclass(frozen=True)
class Vertex:
    """A node of a graph; `working` is None where that is not known."""

    name: str
    role: str
    status: str
    working: bool | None


@dataclass(frozen=True)
class Link:
    """An edge of a graph; `fault` says why it does not work, and `working` is None where nobody knows."""

    one: str
    other: str
    latency_ms: float | None = None
    fault: str | None = None
    working: bool | None = True


@dataclass(frozen=True)
class Graph:
    """Nodes and their links; `hub` is the centre, if there is one."""

    vertices: tuple[Vertex, ...]
    links: tuple[Link, ...]
    hub: str | None = None


@dataclass(frozen=True)
class Matrix:
    """Counts; `counts[i][j]` is row i, column j, both named by `names`."""

    rows: str
    columns: str
    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


Panel = Chart | Graph | Matrix


@dataclass(frozen=True)
class Figure:
    """Panels one above the other.

    Attributes:
        title: What is shown, of what.
        notes: What must be known to read it, and the numbers that sum it up; short sentences.
    """

    title: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = field(default=())
