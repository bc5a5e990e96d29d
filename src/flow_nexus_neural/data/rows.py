"""Rows of one part of a data set, ready for training."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """Rows of one part.

    Attributes:
        x: [n, *row_shape] float32, C-order.
        y: [n] float32 0/1 (binary), float32 standardised (regression), or int64 class index (multiclass).
        symbols: [n] int32 index into the description's symbols, or -1.
        clients: [n] int32 index into the data's clients, or -1.
        last: [n] float32, as `y`: the latest label of the same series that was known before the row's own,
            NaN where there is none; None where rows have no order in time.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32] | NDArray[np.int64]
    symbols: NDArray[np.int32]
    clients: NDArray[np.int32]
    last: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.x)

    def at(self, rows: NDArray[np.int64] | slice) -> Self:
        """Some of the rows: a copy of those with these indices, or a run of them in the same memory."""
        last = None if self.last is None else self.last[rows]
        return replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            symbols=self.symbols[rows],
            clients=self.clients[rows],
            last=last,
        )
