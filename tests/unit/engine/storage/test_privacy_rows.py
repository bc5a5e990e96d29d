"""What private trainings have spent is read over all clusters, and where it cannot be, nothing is spent."""

import sqlite3
from dataclasses import replace

import pytest

from flow_nexus_neural.coordination.privacy.accountant import Sums
from flow_nexus_neural.coordination.privacy.lineage import of_training
from flow_nexus_neural.coordination.privacy.spending import PrivacySpent
from flow_nexus_neural.engine.storage.cluster_rows import training_of, training_row
from flow_nexus_neural.engine.storage.privacy_rows import StoredSpending, read_spending
from flow_nexus_neural.engine.storage.schema import json_text
from flow_nexus_neural.errors import StoreCorrupt
from tests.unit.coordination.test_privacy import settings
from tests.unit.engine.building import training
from tests.unit.engine.training.test_strategies import config

SPENT = PrivacySpent(
    sums={"worker-0": 4, "worker-1": 3},
    clip_norms={"c0": 0.5},
    epsilon=2.0,
    epsilon_of_data=3.0,
    data=("sha256:1",),
    exhausted=True,
)


def private(spent=SPENT):
    made = training()
    made.config = config(privacy=settings(noise_multiplier=2.0, target_epsilon=9.0))
    made.note_privacy(spent)
    return made


def journal(*trainings):
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE trainings (training_id TEXT, spec TEXT, progress TEXT)")
    connection.execute("CREATE TABLE clusters (cluster_id TEXT)")
    connection.execute("CREATE TABLE ledger (cluster_id TEXT, seq INTEGER, body TEXT)")
    for number, one in enumerate(trainings):
        row = training_row("dnc_1", one)
        values = (f"trn_{number}", json_text(row.spec), json_text(row.progress))
        connection.execute("INSERT INTO trainings VALUES (?, ?, ?)", values)
    return connection


def test_only_private_trainings_that_spent_something_count():
    bare = training()
    bare.note_privacy(PrivacySpent(data=("sha256:1",)))
    found = read_spending(journal(bare, private(), private(PrivacySpent(data=("sha256:1",)))))
    assert found == [StoredSpending("trn_1", ("sha256:1",), Sums(2.0, 4))]
    assert found[0].concerns(("sha256:1", "file:/a"))
    assert not found[0].concerns(("sha256:2",))


def test_a_training_reads_back_with_what_it_spent():
    again = training_of(training_row("dnc_1", private()), [])
    assert again.advance.privacy == SPENT
    assert again.config.privacy == private().config.privacy
    older = training_row("dnc_1", private())
    progress = {name: value for name, value in older.progress.items() if name != "privacy"}
    again = training_of(replace(older, progress=progress), [])
    assert again.advance.privacy == PrivacySpent()


@pytest.mark.parametrize("column", ["spec", "progress"])
@pytest.mark.parametrize("content", ["{", '{"format": 99}'])
def test_a_training_that_cannot_be_read_stops_all_spending(column, content):
    connection = journal(private())
    connection.execute(f"UPDATE trainings SET {column}=?", (content,))
    with pytest.raises(StoreCorrupt, match="unknown"):
        read_spending(connection)


def brought(connection, cluster, *trainings):
    """The second entry in the ledger of an imported cluster."""
    entry = {"event": "imported", "trainings": [one.model_dump(mode="json") for one in trainings]}
    connection.execute("INSERT INTO clusters VALUES (?)", (cluster,))
    connection.execute("INSERT INTO ledger VALUES (?, 1, ?)", (cluster, json_text(entry)))


def test_what_imported_models_spent_counts_once_and_at_its_most():
    def elsewhere(name, sums, noise=2.0):
        spent = PrivacySpent(sums={"worker-0": sums}, data=("sha256:1",))
        return of_training(
            name, 2, settings(noise_multiplier=noise), spent, secure_aggregation=False
        )

    connection = journal(private())
    bare = of_training("trn_b", 2, None, PrivacySpent(), secure_aggregation=False)
    brought(connection, "dnc_1", elsewhere("trn_x", 2), bare)
    brought(connection, "dnc_2", elsewhere("trn_x", 6), elsewhere("trn_0", 3))  # trn_0 is of here
    brought(connection, "dnc_3", elsewhere("trn_x", 6, noise=9.0))  # another one that is called so
    connection.execute("INSERT INTO clusters VALUES ('dnc_4')")
    made = {"event": "version", "trainings": [{"training_id": "trn_y"}]}
    connection.execute("INSERT INTO ledger VALUES ('dnc_4', 1, ?)", (json_text(made),))
    found = {(one.training_id, one.sums) for one in read_spending(connection)}
    assert found == {
        ("trn_0", Sums(2.0, 4)),
        ("trn_x", Sums(2.0, 6)),
        ("trn_x", Sums(9.0, 6)),
    }
