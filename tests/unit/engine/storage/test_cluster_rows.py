"""What is stored of a cluster, its slots and its trainings, and read back."""

from dataclasses import replace

import pytest

from flow_nexus_neural.engine.reports import FinalMetrics
from flow_nexus_neural.engine.state.training_record import PreparedDataRef
from flow_nexus_neural.engine.storage import persisted
from flow_nexus_neural.engine.storage.cluster_rows import (
    cluster_row,
    cluster_spec,
    history_row,
    present_cluster_row,
    restore_state,
    slot_of,
    slot_row,
    training_of,
    training_row,
)
from flow_nexus_neural.errors import StoreCorrupt
from tests.unit.engine.building import (
    bundle,
    cluster_state,
    committed,
    network,
    slot,
    training,
)


def served():
    weights = {"worker-0": 1.0}
    return committed([network(state=None)], bundle(weights))


def test_a_cluster_reads_back_as_it_was():
    made = cluster_state(topology="ring", consensus="raft", daa_enabled=False)
    made.add_training(training(), new_networks=2)
    made.link("star", None, ())
    made.metrics.count_payload("train", 1000)
    made.commit(served())
    made.record_final(
        FinalMetrics(
            rounds=3,
            global_accuracy=0.5,
            global_loss=None,
            communication_bytes=1000,
            uptime_seconds=7,
        )
    )
    row = cluster_row(made, served())
    assert cluster_spec(row) == made.spec
    again = cluster_state()
    restore_state(row, again, None)
    assert (again.networks_made, again.topology_epoch, again.final) == (2, 1, made.final)
    assert (again.links, again.last_topology) == (None, "star")
    assert again.metrics.communication() == made.metrics.communication()
    assert again.committed == served()


def test_the_present_row_names_the_newest_durable_version():
    made = cluster_state()
    made.slots.add(slot("worker-0"))
    assert present_cluster_row(made).state["committed"] is None
    made.commit(served())
    made.begin_install(replace(served(), version=9))
    assert present_cluster_row(made).state["committed"]["version"] == 9


def test_a_slot_reads_back_without_its_process():
    made = slot("worker-3", state="failed", incarnation=4)
    made.assign_network(17, implied_head=True)
    made.finish_round(0.5, 30)
    made.note_error("it broke")
    again = slot_of(slot_row("dnc_1", made))
    assert (again.name, again.incarnation, again.state) == ("worker-3", 4, "recovering")
    assert (again.parameters, again.implied_head, again.rounds_done) == (17, True, 1)
    assert (again.rows, again.last_error, again.handle) == (30, "it broke", None)
    assert again.spec == made.spec


def test_a_training_reads_back_as_it_was():
    made = training(seconds=[1.0, 2.0], status="failed", error="why", ended_at="then")
    made = replace(made, request={"epochs": 3}, data=PreparedDataRef("ab" * 32, 99))
    history = [history_row("c", "trn_1", point) for point in made.history]
    assert training_of(training_row("c", made), history) == made


@pytest.mark.parametrize("damage", [{"seed": "many"}, {"topology": None}])
def test_a_cluster_that_cannot_be_understood_is_corrupt_and_says_where(damage):
    row = present_cluster_row(cluster_state())
    broken = replace(row, spec={**row.spec, **damage})
    with pytest.raises(StoreCorrupt, match=next(iter(damage))):
        cluster_spec(broken)


def test_every_part_is_written_in_the_present_format():
    made = cluster_state()
    row = present_cluster_row(made)
    trained = training_row("c", training(seconds=[1.0]))
    parts = [row.spec, row.state, slot_row("c", slot("worker-0")).spec, trained.spec]
    parts += [trained.progress, history_row("c", "t", training(seconds=[1.0]).history[0]).point]
    assert {part["format"] for part in parts} == {persisted.FORMAT}
