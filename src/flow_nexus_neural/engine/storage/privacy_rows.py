"""What private trainings have spent, read over all clusters of a journal, also those that have ended."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from flow_nexus_neural.coordination.ledger import verify_chain
from flow_nexus_neural.coordination.privacy.accountant import Sums
from flow_nexus_neural.coordination.privacy.lineage import TrainingPrivacy
from flow_nexus_neural.coordination.privacy.settings import PrivacySettings
from flow_nexus_neural.coordination.privacy.spending import same_data
from flow_nexus_neural.engine.storage import persisted
from flow_nexus_neural.engine.storage.row_digests import named_rows
from flow_nexus_neural.engine.storage.rows import Stored
from flow_nexus_neural.errors import StoreCorrupt

IMPORTED = "imported"
"""Event of the second entry in the ledger of an imported cluster."""


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


def check_nothing_is_lost(connection: sqlite3.Connection, stored: Stored) -> None:
    """Refuse to count where trainings are known to be missing, altered or older than they were.

    A cluster that lost other rows is no obstacle: its ledger tells that its trainings are all there.

    Raises:
        StoreCorrupt: Of some cluster, what its trainings have spent is not known, so nothing may be spent.
    """
    doubts = dict(stored.older)
    for cluster_id, why in stored.refused.items():
        if not _whole_trainings(connection, cluster_id, stored.digests.get(cluster_id, {})):
            doubts.setdefault(cluster_id, why)
    for cluster_id, why in sorted(doubts.items()):
        raise StoreCorrupt(
            f"what trainings of cluster {cluster_id} have spent of a privacy budget is unknown: {why}",
            hint="restore the state directory from a copy, train without privacy, or start with another"
            " --state-dir for data on which nothing private was trained here",
        )


def _whole_trainings(
    connection: sqlite3.Connection, cluster_id: str, found: Mapping[str, str]
) -> bool:
    """Whether a ledger verifies and its trainings are those that it names, whatever else is wrong."""
    bodies = connection.execute(
        "SELECT body FROM ledger WHERE cluster_id=? ORDER BY seq", (cluster_id,)
    )
    try:
        chain = [json.loads(body) for (body,) in bodies]
        if not chain or verify_chain(chain).first_bad is not None:
            return False
    except (TypeError, ValueError, AttributeError):
        return False
    named = named_rows(chain)
    return bool(named) and _of_trainings(named) == _of_trainings(found)


def _of_trainings(digests: Mapping[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in digests.items() if name.startswith("trainings ")}


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
            own = config.privacy
            settings = None if own is None else PrivacySettings.model_validate(own.model_dump())
        except (ValueError, StoreCorrupt) as failure:
            raise StoreCorrupt(
                f"training {training_id} cannot be read, so what it has spent of a privacy budget is unknown",
                hint="restore the state directory from a copy, or train without privacy",
            ) from failure
        if settings is not None and spent.sums:
            sums = settings.sums(max(spent.sums.values()))
            found.append(StoredSpending(training_id, spent.data, sums))
    return [*found, *_imported(connection, found)]


def _imported(
    connection: sqlite3.Connection, own: Sequence[StoredSpending]
) -> Iterator[StoredSpending]:
    """What trainings have spent that imported models bring with them, and that are not of this directory.

    The same one may be in several models, as it was at different times: then the most counts.
    """
    found: dict[tuple[str, Sums], StoredSpending] = {}
    for one in own:
        found[one.training_id, replace(one.sums, count=0)] = one
    known = set(found)
    bodies = connection.execute(
        "SELECT body FROM clusters JOIN ledger USING (cluster_id) WHERE seq=1"
    )
    for (body,) in bodies:
        for training in _brought(json.loads(body)):
            sums = training.spent
            if sums is None or not sums.count:
                continue
            key = (training.training_id, replace(sums, count=0))
            held = found.get(key)
            if held is None or held.sums.count < sums.count:
                found[key] = StoredSpending(training.training_id, training.data, sums)
                known.discard(key)
    yield from (one for key, one in found.items() if key not in known)


def _brought(entry: Mapping[str, JsonValue]) -> list[TrainingPrivacy]:
    """The trainings of an imported model, as its ledger's entry names them."""
    named = entry.get("trainings") if entry.get("event") == IMPORTED else None
    return [TrainingPrivacy.model_validate(one) for one in named] if isinstance(named, list) else []
