"""Clients whose values are of another magnitude than everyone else's, left out of a column's statistics.

Otherwise one client whose values are a million times too large decides the mean and the deviation by which
all rows are scaled, and the rows of all others become equal, whatever rule combines the workers' updates.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.table import Column, Indices, Table, TextColumn

LIMIT = 100.0
"""A client whose root mean square exceeds this many times that of the middle client is outlying."""
MIN_CLIENTS = 3
NAMED = 5


@dataclass
class ClientStatistics:
    """Chooses the training rows that count for each column's statistics.

    Attributes:
        found: Columns by the name of an outlying client, in the order in which they were met.
    """

    table: Table
    train: Indices
    found: dict[str, list[str]] = field(default_factory=dict)

    def rows_for(self, name: str, column: Column) -> Indices:
        """The training rows without those of clients that are outlying in this column."""
        client_of = self.table.client_of
        if client_of is None or len(self.table.clients) < MIN_CLIENTS:
            return self.train
        if isinstance(column, TextColumn):
            return self.train
        owners = client_of[self.train]
        outlying = outlying_clients(column[self.train], owners, len(self.table.clients))
        for client in np.flatnonzero(outlying):
            self.found.setdefault(self.table.clients[client], []).append(name)
        kept = self.train[~np.append(outlying, [False])[owners]]
        return kept if len(kept) else self.train

    def warnings(self) -> list[str]:
        """One sentence for each outlying client."""
        return [
            f"client '{client}': its values of {_some(columns)} are over {LIMIT:.0f} times the size of other"
            " clients'; they do not count for the scaling, and are clipped"
            for client, columns in self.found.items()
        ]


def outlying_clients(
    values: NDArray[np.generic], owners: NDArray[np.integer], n_clients: int
) -> NDArray[np.bool_]:
    """[n_clients] whether the root mean square of a client's values exceeds 100 times the middle one's.

    The middle is the median over clients that have other values than zero; with fewer than three of them
    nobody can be told apart.

    Args:
        values: [rows] or [rows, ...] numbers; NaN and infinite ones are not counted.
        owners: [rows] index of each row's client, -1 for none.
        n_clients: Number of clients.
    """
    flat = np.asarray(values, dtype=np.float64).reshape(len(owners), -1)
    flat = np.where(np.isfinite(flat), np.abs(flat), np.nan)
    sizes = np.zeros(n_clients)
    for client in range(n_clients):
        own = flat[owners == client]
        own = own[np.isfinite(own)]
        if own.size and (largest := own.max()) > 0:
            sizes[client] = largest * np.sqrt(np.mean((own / largest) ** 2))
    known = sizes[sizes > 0]
    if len(known) < MIN_CLIENTS:
        return np.zeros(n_clients, dtype=np.bool_)
    found: NDArray[np.bool_] = sizes > LIMIT * np.median(known)
    return found


def _some(columns: list[str]) -> str:
    named = ", ".join(f"'{column}'" for column in columns[:NAMED])
    return named if len(columns) <= NAMED else f"{named} and {len(columns) - NAMED} more"
