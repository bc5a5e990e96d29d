from types import SimpleNamespace

from flow_nexus_neural.engine.training.left_out import LeftOut
from tests.unit.engine.building import slot


def test_a_worker_that_failed_is_held_until_the_next_round():
    left_out, worker = LeftOut(), slot("worker-0")
    left_out.add(worker, "no update")
    assert left_out.holds(worker)
    assert not left_out.holds(slot("worker-1"))
    left_out.begin_round()
    assert not left_out.holds(worker)
    assert left_out.n_failures == 0


def test_a_slot_with_a_new_process_is_not_held_for_what_its_former_one_did():
    left_out, worker = LeftOut(), slot("worker-0")
    left_out.add(worker, "died")
    worker.begin_incarnation("node_second")
    assert not left_out.holds(worker)
    assert left_out.reasons(()) == {"worker-0": "died"}
    left_out.add(worker, "died again")
    assert left_out.holds(worker)
    assert left_out.n_failures == 2


def test_forgiving_lets_everybody_be_asked_and_keeps_the_count():
    left_out, worker = LeftOut(), slot("worker-0")
    left_out.add(worker, "no update")
    left_out.forgive()
    assert not left_out.holds(worker)
    assert left_out.reasons(()) == {}
    assert left_out.n_failures == 1


def test_one_that_contributed_after_all_is_not_named():
    left_out = LeftOut()
    for name in ("worker-0", "worker-1"):
        left_out.add(slot(name), "died")
    assert left_out.reasons({"worker-0"}) == {"worker-1": "died"}


def test_a_living_worker_shows_its_failure_and_a_dead_one_what_ended_it():
    left_out, living, dead = LeftOut(), slot("worker-0"), slot("worker-1")
    for state in ("starting", "syncing", "healthy"):
        living.move(state)
    living.attach(SimpleNamespace(), 0.0)
    dead.note_error("sandbox_violation")
    for worker in (living, dead):
        left_out.add(worker, "no update")
    assert living.last_error == "no update"
    assert dead.last_error == "sandbox_violation"


def test_a_refused_update_is_a_failure_of_its_worker():
    left_out, worker = LeftOut(), slot("worker-0")
    left_out.refuse(worker, "not finite")
    assert left_out.holds(worker)
