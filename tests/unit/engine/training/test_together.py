"""Workers of one process are asked at the same time, and told of each other."""

from dataclasses import replace
from types import SimpleNamespace

from flow_nexus_neural.engine.training.tasks import Base, Task
from flow_nexus_neural.engine.training.together import asked_together, by_process
from flow_nexus_neural.protocol.messages import Pass, ProofOrder


def task(name, pid=None, shared_with=()):
    handle = SimpleNamespace(pid=pid, isolation=SimpleNamespace(shared_with=shared_with))
    return Task(
        slot=SimpleNamespace(name=name, handle=handle if pid else None),
        network=None,
        base=Base("base", None),
        copied=True,
        opt_step=0,
        passes=(Pass(order_seed=1),),
        dropout_seed=0,
        work=1.0,
    )


def test_tasks_come_by_process_in_slot_order():
    tasks = [task("a", 1, ("c",)), task("b", 2), task("c", 1, ("a",)), task("d"), task("e", 2)]
    found = [[one.slot.name for one in group] for group in by_process(tasks)]
    assert found == [["a", "c"], ["b"], ["d"], ["e"]]


def test_each_is_told_how_many_are_asked_and_its_place():
    told = [one.together for one in asked_together([task("a", 1), task("c", 1)], 5)]
    assert [(one.round, one.size, one.place) for one in told] == [(5, 2, 0), (5, 2, 1)]


def test_one_alone_and_those_with_proofs_wait_for_nobody():
    assert asked_together([task("a", 1)], 1)[0].together is None
    order = ProofOrder.model_construct()
    proved = [replace(task(name, 1), proof=order) for name in ("a", "c")]
    assert [one.together for one in asked_together(proved, 1)] == [None, None]
