"""Slots: which states follow each other, what survives a process, and names that are never used again."""

from dataclasses import replace

import pytest

from flow_nexus_neural.engine.state.slots import (
    MAX_ERROR_LENGTH,
    MAX_OFFERED,
    SlotBook,
    vertex_order,
)
from flow_nexus_neural.errors import InvalidState, NodeNotFound
from flow_nexus_neural.protocol.node_words import CUT
from tests.unit.engine.building import slot

PROCESS = object()


def healthy(name="worker-0", at_s=1.0):
    made = slot(name)
    made.begin_start()
    made.attach(PROCESS, at_s)
    made.move("syncing")
    made.become_healthy("noon")
    return made


def book(*names):
    made = SlotBook()
    for name in names:
        made.add(slot(name))
    return made


def test_a_slot_is_healthy_only_with_a_process_and_in_the_state_of_it():
    made = healthy()
    assert made.healthy
    assert (made.deployed_at, made.heard_at_s) == ("noon", 1.0)
    made.detach()
    assert (made.state, made.healthy) == ("healthy", False)


def test_a_state_that_may_not_follow_is_a_bug_and_changes_nothing():
    made = slot("worker-0")
    with pytest.raises(InvalidState) as refusal:
        made.move("healthy")
    assert refusal.value.details == {
        "slot": "worker-0",
        "state": "declared",
        "successor": "healthy",
    }
    assert made.state == "declared"


def test_the_first_process_starts_and_every_later_one_recovers():
    made = slot("worker-0")
    made.begin_start()
    assert made.state == "starting"
    made.fail("no memory")
    made.begin_start()
    assert made.state == "recovering"
    made.begin_start()  # a slot read back from a former server is recovering before anybody starts it
    assert made.state == "recovering"


def test_a_new_process_holds_nothing_of_what_the_former_one_held():
    made = healthy()
    made.note_built("serve0", "plan")
    made.note_served("serve0", "weights")
    made.attach(object(), 5.0)
    assert (made.built, made.served, made.heard_at_s) == ({}, {}, 5.0)
    made.note_served("serve1", "weights")
    made.detach()
    assert (made.handle, made.built, made.served) == (None, {}, {})


def test_each_incarnation_has_a_number_and_a_node_id_of_its_own():
    made = slot("worker-0")
    made.begin_incarnation("node_b")
    assert (made.name, made.incarnation, made.node_id) == ("worker-0", 2, "node_b")


def test_becoming_healthy_forgets_why_it_failed():
    made = healthy()
    made.fail("killed")
    made.begin_start()
    made.move("syncing")
    made.become_healthy("later")
    assert (made.last_error, made.deployed_at) == (None, "later")


def test_failing_twice_or_after_the_end_keeps_the_state_and_the_last_reason():
    made = healthy()
    made.fail("first")
    made.fail("second")
    assert (made.state, made.last_error) == ("failed", "second")
    made.move("retired")
    made.fail("third")
    assert (made.state, made.last_error) == ("retired", "third")


def test_a_reason_that_is_too_long_is_cut():
    made = healthy()
    made.note_error("x" * 5000)
    assert made.last_error == "x" * MAX_ERROR_LENGTH + CUT


def test_a_condemned_node_is_doubted_and_keeps_the_reason_for_which_it_is_killed():
    made = healthy()
    assert not made.condemned
    made.condemn("node_timeout: silent")
    assert (made.state, made.condemned, made.healthy) == ("suspect", True, False)
    assert made.last_error == "node_timeout: silent"


def test_a_doubt_alone_condemns_nobody():
    made = healthy()
    made.move("suspect")
    assert not made.condemned


@pytest.mark.parametrize(
    ("state", "returning", "arriving", "lost"),
    [
        ("declared", False, False, False),
        ("starting", False, True, False),
        ("syncing", False, True, False),
        ("suspect", False, True, False),
        ("healthy", False, False, False),
        ("failed", False, False, True),
        ("failed", True, True, False),
        ("quarantined", False, False, True),
        ("failed_permanently", False, False, True),
        ("recovering", False, False, False),
        ("recovering", True, True, False),
    ],
)
def test_what_is_on_its_way_is_not_lost(state, returning, arriving, lost):
    made = slot("worker-0", state=state)
    made.await_return(expected=returning)
    assert (made.arriving, made.lost) == (arriving, lost)


def test_a_slot_counts_what_it_was_asked_and_what_it_finished():
    made = healthy()
    made.begin_call()
    made.begin_call()
    made.end_call()
    assert made.calls == 1
    made.assign_rows(7)
    made.finish_round(0.5, 40)
    made.finish_round(None, 41)
    assert (made.rounds_done, made.loss, made.rows) == (2, None, 41)


def test_equal_layers_have_one_text_whoever_wrote_them():
    one = {"type": "dense", "units": 3, "init": {"sd": 0.1, "kind": "normal"}}
    other = {"units": 3, "init": {"kind": "normal", "sd": 0.1}, "type": "dense"}
    specs = [replace(slot("worker-0").spec, layers=(layer,)) for layer in (one, other)]
    assert repr(specs[0].layers) == repr(specs[1].layers)
    assert specs[0].layers == (one,)


def test_a_name_is_not_used_again_after_its_slot_was_forgotten():
    made = book("worker-0", "worker-1")
    made.remove(made["worker-1"])
    assert made.next_name("worker") == "worker-2"
    assert made.next_name("validator") == "validator-0"
    made.add(slot("worker-7"))
    assert made.next_name("worker") == "worker-8"


def test_a_retired_slot_is_in_no_list_and_its_name_stays_taken():
    made = book("worker-0", "worker-1")
    made["worker-0"].move("retired")
    assert [s.name for s in made] == ["worker-1"]
    assert (len(made), made.names()) == (1, {"worker-1"})
    assert [s.name for s in made.with_retired()] == ["worker-0", "worker-1"]
    assert made.next_name("worker") == "worker-2"
    with pytest.raises(NodeNotFound):
        made.find("worker-0")


def test_a_node_is_found_by_its_slot_and_by_its_newest_id_only():
    made = book("worker-0", "worker-1")
    assert made.find("node_worker-1") is made.find("worker-1") is made["worker-1"]
    made["worker-1"].begin_incarnation("node_new")
    assert made.find("node_new") is made["worker-1"]
    with pytest.raises(NodeNotFound, match=r"it has 2: worker-0 \(node_worker-0\), worker-1"):
        made.find("node_worker-1")
    with pytest.raises(NodeNotFound, match="it has 0: none"):
        book().find("worker-0")


def test_slots_are_told_in_the_order_of_roles_and_numbers_whatever_came_first():
    names = ["worker-10", "worker-9", "validator-0", "parameter_server-1", "aggregator-0"]
    made = SlotBook()
    for name in names:
        made.add(healthy(name))
    ordered = ["parameter_server-1", "aggregator-0", "validator-0", "worker-9", "worker-10"]
    assert [s.name for s in made.healthy()] == ordered
    assert [s.name for s in made.of_role("worker", "validator")] == ordered[2:]
    assert sorted(made, key=vertex_order) == made.healthy()
    made["worker-9"].fail("dead")
    assert [s.name for s in made.healthy("worker")] == ["worker-10"]


def test_the_census_counts_the_healthy_of_all_by_role():
    made = SlotBook()
    assert made.census() == "no nodes"
    made.add(healthy("worker-0"))
    made.add(slot("worker-1"))
    made.add(healthy("validator-0"))
    assert made.census() == "1 of 2 workers, 1 of 1 validators"


def test_a_quarantined_slot_stays_so_until_it_is_started_again():
    one = healthy()
    one.quarantine("proof of learning invalid")
    one.quarantine("once more")
    assert (one.state, one.healthy, one.lost) == ("quarantined", False, True)
    with pytest.raises(InvalidState):
        one.move("healthy")
    one.begin_start()
    assert one.state == "recovering"


def test_validators_judge_proofs_and_without_them_whoever_does_not_train():
    made = SlotBook()
    for name in ("worker-0", "parameter_server-0", "aggregator-0", "validator-0", "validator-1"):
        made.add(healthy(name))
    assert [one.name for one in made.verifiers()] == ["validator-0", "validator-1"]
    for name in ("validator-0", "validator-1"):
        made[name].fail("dead")
    assert [one.name for one in made.verifiers()] == ["parameter_server-0", "aggregator-0"]
    for name in ("parameter_server-0", "aggregator-0"):
        made[name].fail("dead")
    assert made.verifiers() == []


def test_the_weights_that_a_process_was_offered_are_forgotten_with_it_and_are_not_endless():
    made = healthy()
    for k in range(MAX_OFFERED + 3):
        made.note_offered(f"d{k}")
        made.note_offered(f"d{k}")
    assert len(made.offered) == MAX_OFFERED
    assert "d2" not in made.offered
    assert f"d{MAX_OFFERED + 2}" in made.offered
    made.attach(PROCESS, 2.0)
    assert not made.offered
