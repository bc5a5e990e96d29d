"""A figure in the format that was asked for: a picture, Mermaid or text, and always the text beside it."""

from dataclasses import dataclass
from typing import assert_never

from flow_nexus_neural.artifacts.plots.drawing import can_draw, draw
from flow_nexus_neural.artifacts.plots.figure import Figure
from flow_nexus_neural.artifacts.plots.mermaid import as_mermaid
from flow_nexus_neural.artifacts.plots.words import in_words
from flow_nexus_neural.vocabulary import PlotFormat

SUFFIXES: dict[PlotFormat, tuple[str, ...]] = {
    "png": (".png",),
    "svg": (".svg",),
    "mermaid": (".mmd", ".md"),
    "text": (".txt",),
}


@dataclass(frozen=True)
class Rendering:
    """A figure as it is sent or written.

    Attributes:
        content: The file.
        text: The same in words and numbers, short enough for a chat.
    """

    format: PlotFormat
    content: bytes
    text: str


def usual_format() -> PlotFormat:
    """What a plot is if nothing else is asked for: a picture where one can be drawn."""
    return "png" if can_draw() else "mermaid"


def render(figure: Figure, plot_format: PlotFormat) -> Rendering:
    """A figure in a format. Blocking.

    Raises:
        NotAvailable: A picture is asked for and cannot be drawn here.
    """
    match plot_format:
        case "png" | "svg":
            content = draw(figure, plot_format)
        case "mermaid":
            content = as_mermaid(figure).encode()
        case "text":
            content = in_words(figure, full=True).encode()
        case _:
            assert_never(plot_format)
    return Rendering(plot_format, content, in_words(figure, full=False))
