"""Stored formats: old ones are upgraded step by step, new ones are refused, fields come and go."""

import pytest

from flow_nexus_neural.engine.storage.persisted import (
    FORMAT,
    StoredProgress,
    StoredState,
    StoredTraining,
    reading,
)
from flow_nexus_neural.engine.storage.persisted.reading import demands_digests, read, upgraded
from flow_nexus_neural.errors import StoreCorrupt

CONFIG = {
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 0.1,
    "optimizer": "adam",
    "federated": False,
    "rounds": 3,
    "partition": "iid",
    "seed": 1,
    "strategy": "single_process",
}


def test_a_field_that_is_not_known_is_ignored():
    found = read(StoredProgress, {"format": FORMAT, "rounds_done": 4, "from_the_future": [1]})
    assert found.rounds_done == 4
    assert "from_the_future" not in found.to_json()


def test_a_field_that_is_missing_has_its_default():
    assert read(StoredProgress, {"format": FORMAT}).best_round is None
    assert read(StoredState, {}).networks_made == 0


def test_a_part_of_a_newer_version_is_refused_and_says_so():
    with pytest.raises(StoreCorrupt, match=f"format {FORMAT + 1}.*reads up to {FORMAT}"):
        read(StoredProgress, {"format": FORMAT + 1})


@pytest.mark.parametrize("number", [0, -1, "2", None, 1.5])
def test_a_format_that_cannot_exist_is_corrupt(number):
    with pytest.raises(StoreCorrupt, match="does not exist"):
        read(StoredProgress, {"format": number})


def test_a_value_of_the_wrong_kind_is_corrupt_and_named():
    with pytest.raises(StoreCorrupt, match="its progress cannot be read: rounds_done"):
        read(StoredProgress, {"format": FORMAT, "rounds_done": "many"})


@pytest.mark.parametrize(
    ("stored", "demanded"),
    [({}, False), ({"format": 2}, False), ({"format": 3}, True), ({"format": "2"}, True)],
)
def test_rows_of_format_3_must_be_named_by_their_ledger(stored, demanded):
    assert demands_digests(stored) == demanded


def test_there_is_one_step_from_every_format_to_the_next():
    assert sorted(reading._UPGRADES) == list(range(1, FORMAT))


def test_a_training_of_format_1_was_its_configuration_and_nothing_else():
    found = read(StoredTraining, CONFIG)
    assert (found.config.epochs, found.request, found.data) == (3, None, None)
    again = read(StoredTraining, found.to_json())
    assert again == found


def test_a_state_of_format_1_called_its_networks_cohorts():
    old = {"cohorts_made": 2, "committed": {"version": 1, "cohorts": {"c0": 1}, "schema": {"a": 1}}}
    content = upgraded("state", old)
    assert content["networks_made"] == 2
    assert content["committed"] == {"version": 1, "networks": {"c0": 1}, "data_schema": {"a": 1}}
    assert "cohorts" in old["committed"]  # what was read is left alone


def test_what_is_written_is_read_back_without_a_step():
    part = StoredProgress(rounds_done=3, train_loss=0.5)
    assert upgraded("progress", part.to_json()) == part.model_dump(mode="json")
