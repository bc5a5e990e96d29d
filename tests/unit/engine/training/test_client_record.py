"""What became of each client of a round."""

import pytest

from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.client_record import NAMED, ClientRecord


def update(slot, rows=4, loss=1.0, steps=2, digest="d"):
    return Update(slot, None, digest, rows=rows, steps=steps, opt_step=steps, loss=loss, cpu_s=0.5)


def test_a_node_is_told_with_all_that_it_trained():
    record = ClientRecord(5, ["a", "b", "c"])
    record.trained("a", update("worker-10"), {})
    record.trained("b", update("worker-2", rows=1, loss=4.0), {})
    record.trained("c", update("worker-2", rows=3, loss=0.0, digest="e"), {})
    assert record.per_node == {"worker-2": 2, "worker-10": 1}
    two, ten = record.updates
    assert (two.slot, two.rows, two.steps, two.cpu_s) == ("worker-2", 4, 4, 1.0)
    assert two.loss == pytest.approx(1.0)
    assert ten.digest == "d"
    assert two.digest not in ("d", "e")


def test_a_loss_that_was_not_finite_is_not_hidden_by_the_others():
    record = ClientRecord(2, ["a", "b"])
    record.trained("a", update("worker-0", loss=None), {})
    record.trained("b", update("worker-0"), {})
    assert record.updates[0].loss is None


def test_a_client_that_made_no_step_has_no_loss_and_hides_none():
    record = ClientRecord(2, ["a", "b"])
    record.trained("a", update("worker-0", loss=None, steps=0), {})
    record.trained("b", update("worker-0", loss=2.0), {})
    assert record.updates[0].loss == 2.0


def test_who_was_moved_and_who_was_missed_is_named_with_the_reasons():
    record = ClientRecord(3, ["a", "b"])
    record.trained("a", update("worker-1"), {"worker-0": "died"})
    record.missed("b", {"worker-0": "late"})
    told = record.report(7)
    assert (told.round, told.total, told.asked, told.trained) == (7, 3, 2, 1)
    assert told.moved[0].nodes == ["worker-0", "worker-1"]
    assert told.moved[0].reason == "worker-0: died"
    assert told.missed[0].client == "b"
    assert record.evidence(7)["missed"] == [
        {"client": "b", "reason": "worker-0: late", "nodes": ["worker-0"]}
    ]
    assert record.why_missed == "client b: worker-0: late"


def test_of_many_only_some_are_named_and_all_are_counted():
    names = [f"c{k}" for k in range(NAMED + 5)]
    record = ClientRecord(len(names), names)
    for name in names:
        record.missed(name, {"worker-0": "died"})
    told = record.report(1)
    assert (len(told.missed), told.n_missed) == (NAMED, NAMED + 5)
