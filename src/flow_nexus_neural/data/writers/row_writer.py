"""What every writer of rows does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Value = str | int | float | bool | None
"""A cell; None is an empty one."""


@dataclass(frozen=True)
class OutputColumn:
    """A column that is written; `kind` is the type of its values where the format has types."""

    name: str
    kind: Literal["text", "whole", "number"]


class ByteSink(Protocol):
    """Takes bytes in order."""

    def write(self, content: bytes) -> int:
        """Append bytes."""
        ...


class RowWriter(Protocol):
    """Writes rows, some at a time."""

    def write(self, cells: Sequence[Sequence[Value]]) -> None:
        """Append rows, given as one sequence of cells per column."""
        ...

    def finish(self) -> None:
        """Write what ends the file."""
        ...
