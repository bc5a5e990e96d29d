"""What private trainings have spent, read over all clusters of a journal, also those that have ended."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from flow_nexus_neural.coordination.privacy.accountant import Sums
from flow_nexus_neural.coordination.privacy.spending import same_data
from flow_nexus_neural.engine.storage import persisted
from flow_nexus_neural.errors import StoreCorrupt


@dataclass(frozen=True)
class StoredSpending:
    """What one training has spent.

    Attributes:
        data: What identifies its data set.
        sums: Those of the client that took part most often.
    """

    training_id: str
    data: Sequence[str]
    sums: Sums

    def concerns(self, data: Sequence[str]) -> bool:
        """Whether it was spent on this data set."""
        return same_data(self.data, data)


def read_spending(connection: sqlite3.Connection) -> list[StoredSpending]:
    """Every private training that has spent something.

    Raises:
        StoreCorrupt: A training cannot be read: what it has spent is not known, so nothing may be spent.
    """
    found: list[StoredSpending] = []
    for training_id, spec, progress in connection.execute(
        "SELECT training_id, spec, progress FROM trainings ORDER BY training_id"
    ):
        try:
            config = persisted.read(persisted.StoredTraining, json.loads(spec)).config
            spent = persisted.read(persisted.StoredProgress, json.loads(progress)).privacy
        except (ValueError, StoreCorrupt) as failure:
            raise StoreCorrupt(
                f"training {training_id} cannot be read, so what it has spent of a privacy budget is unknown",
                hint="restore the state directory from a copy, or train without privacy",
            ) from failure
        if config.privacy is not None and spent.sums:
            sums = Sums(config.privacy.noise_multiplier, max(spent.sums.values()))
            found.append(StoredSpending(training_id, spent.data, sums))
    return found
