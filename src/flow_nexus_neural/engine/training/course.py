"""What stays the same over all rounds of a training, or of whatever trains its networks again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.partition import Shards
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.reports import TrainingConfig
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.training.tasks import Recipe
from flow_nexus_neural.engine.training.trusted_rows import Trusted

RowsOfClients = Mapping[str, NDArray[np.int64]]
"""Numbers of the rows of each client, in the order in which clients count."""

Cut = Callable[[list[Slot]], Shards]
"""Divides the rows among workers."""


@dataclass(frozen=True)
class Course:
    """What stays the same over all rounds.

    Attributes:
        rows: All rows to train on; shards are indices into them.
        cut: Divides these rows among workers.
        trusted: Rows that no worker gets, for rules that need some.
        everybody: Every round asks all workers, those that come later too.
        clients: Rows of every client that trains by itself, by its name; None where workers have shards.
        least_workers: Fewest workers of a round that the caller insists on; 1 when nothing was asked.
        run: Root of every seed.
    """

    config: TrainingConfig
    recipe: Recipe
    rows: Rows
    cut: Cut
    least_workers: int
    run: tuple[int, int]
    trusted: Trusted | None = None
    everybody: bool = False
    clients: RowsOfClients | None = None
