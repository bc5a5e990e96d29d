"""Where everything lies in a module's memory: decided when the module is written, never at run time."""

from dataclasses import dataclass, replace
from typing import Self

from flow_nexus_neural.wasm.compile.text import FLOAT_BYTES

PAGE_BYTES = 65_536
ALIGNMENT = 64
PANEL = 8
"""Columns that a matrix product computes together. Rows are padded to a multiple of it."""


def padded(width: int) -> int:
    """The width of a row in memory, in floats."""
    return -(-width // PANEL) * PANEL


@dataclass(frozen=True)
class Buffer:
    """The values of a batch between two layers: [n, width] or [n, steps, width], float32.

    What lies between `width` and the padded width is unspecified and never counts.

    Attributes:
        at: Byte address of the first value.
        steps: None for vectors.
        width: Features of a step or of a vector.
        row_bytes: From a step to the next.
        sample_bytes: From a sample to the next.
        owner: Address of the memory that it keeps from being used again.
    """

    at: int
    steps: int | None
    width: int
    row_bytes: int
    sample_bytes: int
    owner: int

    @property
    def rows(self) -> int:
        """Rows of a sample."""
        return 1 if self.steps is None else self.steps

    @property
    def between_rows(self) -> int:
        """Bytes from any row of the batch to the next."""
        return self.sample_bytes if self.steps is None else self.row_bytes

    @property
    def vectors(self) -> int:
        """128-bit vectors of a row, its padding included."""
        return padded(self.width) * FLOAT_BYTES // 16

    def last_step(self) -> Self:
        """[n, width] of the last step, in the same memory."""
        if self.steps is None:
            return self
        return replace(self, at=self.at + (self.steps - 1) * self.row_bytes, steps=None)


class Arena:
    """Gives out addresses; memory that was given back is used again."""

    def __init__(self) -> None:
        self._free: list[tuple[int, int]] = []
        self._sizes: dict[int, int] = {}
        self.end = ALIGNMENT

    def take(self, n_bytes: int) -> int:
        """Address of so many bytes, aligned to a cache line."""
        size = -(-max(n_bytes, 1) // ALIGNMENT) * ALIGNMENT
        for index, (at, free) in enumerate(self._free):
            if free >= size:
                self._free[index : index + 1] = [(at + size, free - size)] if free > size else []
                self._sizes[at] = size
                return at
        at = self.keep(size)
        self._sizes[at] = size
        return at

    def keep(self, n_bytes: int) -> int:
        """Address of bytes that a run does not write, as weights: never memory that was used before."""
        at, self.end = self.end, self.end + -(-max(n_bytes, 1) // ALIGNMENT) * ALIGNMENT
        return at

    def give_back(self, at: int) -> None:
        """What lies there is not read any more."""
        self._free.append((at, self._sizes.pop(at)))
        self._free.sort()
        merged: list[tuple[int, int]] = []
        for start, size in self._free:
            if merged and merged[-1][0] + merged[-1][1] == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + size)
            else:
                merged.append((start, size))
        self._free = merged

    @property
    def pages(self) -> int:
        """Pages of 64 KiB that all of it needs."""
        return -(-self.end // PAGE_BYTES)
