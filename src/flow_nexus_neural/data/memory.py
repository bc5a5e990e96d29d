"""Counts the memory that a table takes before it is taken."""

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.errors import LimitExceeded

MAX_TABLE_BYTES = 320 * 1024 * 1024
"""Memory of the columns of one table. With what its reader holds besides, it stays below 512 MiB."""
MAX_READING_BYTES = 480 * 1024 * 1024
"""Of a document that is decoded as a whole and its table together."""
LEVEL_BYTES = 160
"""Memory of one distinct text besides its characters: the text, its number, and a place in a dictionary."""
_SMALL_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What a table may have.

    Attributes:
        max_rows: Rows beyond which reading stops.
        table_bytes: Memory of its columns.
        labels_needed: Whether an array of inputs needs labels beside it.
    """

    max_rows: int
    table_bytes: int = MAX_TABLE_BYTES
    labels_needed: bool = True


class MemoryBudget:
    """How much more memory a table may take.

    Args:
        subject: Names the source in errors.
        limit: In bytes.
    """

    def __init__(self, subject: str, limit: int = MAX_TABLE_BYTES) -> None:
        self._subject = subject
        self._limit = limit
        self._taken = 0

    def take(self, nbytes: int) -> None:
        """Count memory that is about to be taken.

        Raises:
            LimitExceeded: If there is too little left.
        """
        self._taken += nbytes
        if self._taken > self._limit:
            raise LimitExceeded(
                f"{self._subject} would take more memory than one table may ({MAX_TABLE_BYTES} bytes)",
                hint="use fewer rows or columns, float32 in an NPZ file, or leave out texts that hardly"
                " repeat",
            )

    def give_back(self, nbytes: int) -> None:
        """Count memory that is free again."""
        self._taken -= nbytes

    def take_text(self, text: str) -> None:
        """Count a distinct text."""
        # A character takes up to four bytes; which texts need how many is not worth asking each of them.
        self.take(LEVEL_BYTES + len(text) * (1 if text.isascii() else 4))


class GrowingArray:
    """An array [rows, ...] to which blocks are appended, in place, so that it is never there twice."""

    def __init__(self, budget: MemoryBudget) -> None:
        self.rows = 0
        self._budget = budget
        self._array: NDArray[np.float64] | None = None

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """Shape of one row; None before the first block."""
        return None if self._array is None else self._array.shape[1:]

    def append(self, block: NDArray[np.floating[Any]]) -> None:
        """Append [n, ...] rows of the shape of the others.

        Raises:
            LimitExceeded: If the budget is exhausted.
        """
        self._budget.take(block.size * 8)
        if self._array is None:
            self._array = np.empty((0, *block.shape[1:]))
        end = self.rows + len(block)
        if end > len(self._array):
            spare = end // 2 if self._array.nbytes < _SMALL_BYTES else end // 8
            # Nobody else holds the array yet, so it may move.
            self._array.resize((end + spare, *block.shape[1:]), refcheck=False)
        self._array[self.rows : end] = block
        self.rows = end

    def clear(self) -> None:
        """Drop all rows and give their memory back."""
        if self._array is not None:
            self._budget.give_back(self._array[: self.rows].nbytes)
        self._array, self.rows = None, 0

    def finished(self) -> NDArray[np.float64]:
        """The array; nothing can be appended any more."""
        if self._array is None:
            return np.empty(0)
        array, self._array = self._array, None
        array.resize((self.rows, *array.shape[1:]), refcheck=False)
        return array


_collections = threading.Lock()
_without = 0


@contextmanager
def without_collections() -> Iterator[None]:
    """Let the cyclic collector rest: with millions of values alive, each of its passes stops all threads."""
    global _without  # noqa: PLW0603 - the collector is one for the whole process
    with _collections:
        _without += 1
        gc.disable()
    try:
        yield
    finally:
        with _collections:
            _without -= 1
            if not _without:
                gc.enable()


def return_free_memory() -> None:
    """Give the system back what the allocator keeps for later, where it can be asked to."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
