"""A reply that is looked at: a picture, or text that is drawn, and the same in words.

It has no structured content: hosts drop pictures beside it.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mcp.types import CallToolResult, ImageContent, TextContent

from flow_nexus_neural.engine.reports import PlotReport
from flow_nexus_neural.errors import LimitExceeded

MAX_TEXT_BYTES = 40_000
MAX_PICTURE_BYTES = 700_000
"""As base64 below a megabyte, which hosts accept."""


@dataclass(frozen=True)
class Shown:
    """What is shown, in this order.

    Attributes:
        picture: A PNG; None where the texts are all there is.
    """

    texts: tuple[str, ...]
    picture: bytes | None = None

    @classmethod
    def of(cls, report: PlotReport) -> "Shown":
        """A plot as it is shown.

        Raises:
            LimitExceeded: It is too large for a reply; a file of it, if asked for, is written.
        """
        words = report.text
        if report.path is not None:
            words += (
                f"\nwritten: {report.path} ({len(report.content)} bytes, sha256 {report.sha256})"
            )
        is_picture = report.format == "png"
        limit = MAX_PICTURE_BYTES if is_picture else MAX_TEXT_BYTES
        if len(report.content) > limit:
            if report.path is not None:
                return cls((words,))
            raise LimitExceeded(
                f"as {report.format} this plot takes {len(report.content)} bytes; a reply shows {limit}",
                hint="give a path to have it written to a file, or another format",
            )
        if is_picture:
            return cls((words,), report.content)
        drawn = report.content.decode()
        return cls((drawn,) if report.format == "text" and report.path is None else (drawn, words))

    def with_warnings(self, warnings: Sequence[str]) -> "Shown":
        """With what is to be said of the arguments."""
        if not warnings:
            return self
        return replace(self, texts=(*self.texts, *(f"warning: {one}" for one in warnings)))

    @property
    def result(self) -> CallToolResult:
        """As it is sent."""
        texts = [TextContent(type="text", text=text) for text in self.texts]
        if self.picture is None:
            return CallToolResult(content=[*texts])
        picture = ImageContent(
            type="image", data=base64.b64encode(self.picture).decode(), mime_type="image/png"
        )
        return CallToolResult(content=[picture, *texts])
