"""What stays the same over all rounds of a training, or of whatever trains its networks again."""

from collections.abc import Callable
from dataclasses import dataclass

from flow_nexus_neural.data.partition import Shards
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.reports import TrainingConfig
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.training.tasks import Recipe
from flow_nexus_neural.engine.training.trusted_rows import Trusted

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
