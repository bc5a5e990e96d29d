"""An exchange closes by the round's rule: updates in slot order, the others named, the late ones stopped."""

import anyio
import pytest

from flow_nexus_neural.coordination.rounds import RoundPatience
from flow_nexus_neural.engine.calls.deadlines import CANCEL
from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.engine.training.collect import Pace, collect, prepare_all
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.tasks import Base, Task
from flow_nexus_neural.errors import RoundFailed
from flow_nexus_neural.protocol.messages import Pass
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.unit.engine.building import slot as bare_slot
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import (
    START,
    claims,
    exchange,
    group,
    lying,
    publishes,
    trained,
    training_rows,
)

SIZES = (12, 7, 9)
NAMES = ["worker-0", "worker-1", "worker-2"]
PORTS = Ports(
    patience=Patience(silence_s=1e6, rounds=RoundPatience(least_s=3.0, first_slack_s=5.0))
)


@pytest.fixture
def anyio_backend():
    return virtual_time()


def slow(**delays_s):
    """Workers whose first training request takes so long; `w1=2` is worker-1."""
    faults = FaultPlan()
    for name, delay_s in delays_s.items():
        faults.slow(f"worker-{name[1:]}", "train", delay_s=delay_s)
    return faults


def task(base, slot, work=10.0):
    return Task(
        slot=slot,
        network=START,
        base=Base(base.key if base else "base", base),
        copied=True,
        opt_step=0,
        passes=(Pass(order_seed=slot_seed(slot)),),
        dropout_seed=1,
        work=work,
    )


def slot_seed(slot):
    return 100 + int(slot.name[-1])


async def collected(w, *, fewest=1, pace=None, left_out=None):
    """One exchange with all workers of the world."""
    made, left_out = exchange(w, SIZES), left_out or LeftOut()
    slots = [w.slots[name] for name in NAMES]
    await prepare_all(made, [(slot, START) for slot in slots], left_out)
    base = await made.publish(START, START.state)
    try:
        return await collect(
            made,
            [task(base, slot) for slot in slots],
            min_contributors=fewest,
            pace=pace or Pace(),
            left_out=left_out,
            context=w.engine.context,
        )
    finally:
        base.close()
        made.close()


async def test_updates_come_in_slot_order_whoever_is_first(tmp_path):
    async with running(tmp_path, 3, faults=slow(w0=3, w1=2, w2=1), ports=PORTS) as w:
        found = await collected(w)
        assert [update.slot for update in found.updates] == NAMES
        assert found.excluded == {}
        for update, chosen in zip(found.updates, exchange(w, SIZES).shards.values(), strict=True):
            seed = slot_seed(w.slots[update.slot])
            params, _, _ = trained(START.state.params, training_rows(), chosen, [(seed, 0, None)])
            assert update.state.params == pytest.approx(params, rel=1e-4)


async def test_a_late_worker_is_left_out_stopped_and_lives(tmp_path):
    faults = slow(w2=8)  # it hears that it should stop, since it is 3 s late for that
    async with running(tmp_path, 3, faults=faults, ports=PORTS) as w:
        node, began_s = w.node("worker-2"), anyio.current_time()
        found = await collected(w)
        assert [update.slot for update in found.updates] == NAMES[:2]
        assert found.excluded == {"worker-2": "late"}
        assert anyio.current_time() - began_s == pytest.approx(8.0)
        assert not node.gone
        assert faults.met("worker-2", "cancel") == 1
        assert faults.met("worker-0", "cancel") == 0


async def test_a_late_worker_that_cannot_hear_its_cancellation_is_killed(tmp_path):
    async with running(tmp_path, 3, faults=slow(w2=3600), ports=PORTS) as w:
        node, began_s = w.node("worker-2"), anyio.current_time()
        await collected(w)
        assert anyio.current_time() - began_s == pytest.approx(5.0 + CANCEL.answer_s)
        assert node.gone


async def test_a_worker_that_dies_is_named_with_its_error(tmp_path):
    async with running(tmp_path, 3, faults=FaultPlan().kill("worker-1", "train"), ports=PORTS) as w:
        found = await collected(w)
        assert [update.slot for update in found.updates] == ["worker-0", "worker-2"]
        assert found.excluded["worker-1"].startswith("node_died: ")


async def test_a_refused_update_is_named_with_the_reason_alone(tmp_path):
    service = lying(publishes(float("nan")), "worker-0")
    async with running(tmp_path, 3, service=service, ports=PORTS) as w:
        found = await collected(w)
        assert [update.slot for update in found.updates] == ["worker-1", "worker-2"]
        assert found.excluded == {"worker-0": "the update of worker-0 is not finite"}


async def test_the_failed_are_held_for_the_round_and_the_late_are_not(tmp_path):
    left_out = LeftOut()
    faults = slow(w2=8).kill("worker-1", "train")
    async with running(tmp_path, 3, faults=faults, ports=PORTS) as w:
        with pytest.raises(RoundFailed):
            await collected(w, fewest=3, left_out=left_out)
        assert [left_out.holds(slot) for slot in w.slots] == [False, True, False]


@pytest.mark.parametrize("fewest", [3, 99])
async def test_fewer_updates_than_needed_fail_the_round_and_say_who_and_why(tmp_path, fewest):
    service = lying(claims(steps=0, opt_step=5), "worker-1")
    async with running(tmp_path, 3, service=service, ports=PORTS) as w:
        with pytest.raises(RoundFailed, match="2 of 3 needed updates") as failure:
            await collected(w, fewest=fewest)
        assert "worker-1: the update of worker-1 claims 0 steps" in failure.value.message
        assert failure.value.retryable


async def test_two_thirds_are_needed_whatever_is_asked(tmp_path):
    faults = FaultPlan().kill("worker-1", "train").kill("worker-2", "train")
    async with running(tmp_path, 3, faults=faults, ports=PORTS) as w:
        with pytest.raises(RoundFailed, match="1 of 2 needed updates"):
            await collected(w, fewest=1)


async def test_a_slow_worker_is_waited_for_when_the_past_says_that_it_takes_so_long(tmp_path):
    pace = Pace()
    for _ in range(5):
        pace.add(60.0, 10.0)
    async with running(tmp_path, 3, faults=slow(w2=59), ports=PORTS) as w:
        found = await collected(w, pace=pace)
        assert [update.slot for update in found.updates] == NAMES


async def test_only_those_that_delivered_set_the_pace(tmp_path):
    pace = Pace()
    faults = slow(w0=2, w1=4).kill("worker-2", "train")
    async with running(tmp_path, 3, faults=faults, ports=PORTS) as w:
        await collected(w, pace=pace)
        made = [task(None, w.slots[name]) for name in NAMES]
        assert sorted(pace.expected_s(made)) == pytest.approx([2.0, 4.0])


def test_the_pace_is_per_unit_of_work_and_forgets_what_is_old():
    pace = Pace()
    assert pace.expected_s([task(None, bare_slot("worker-0"))]) == []
    pace.add(1000.0, 1.0)
    for _ in range(20):
        pace.add(6.0, 3.0)
    tasks = [task(None, bare_slot(f"worker-{n}"), work) for n, work in enumerate((1, 5, 30))]
    assert pace.expected_s(tasks) == [10.0] * 20  # of the median work


async def test_no_more_train_at_one_time_than_there_are_places(tmp_path):
    faults = slow(w0=1, w1=1, w2=1)
    async with running(tmp_path, 3, faults=faults, ports=PORTS, places=1) as w:
        began_s = anyio.current_time()
        found = await collected(w)
        assert len(found.updates) == 3
        assert anyio.current_time() - began_s == pytest.approx(3.0)
    async with running(tmp_path / "wide", 3, faults=slow(w0=1, w1=1, w2=1), places=3) as w:
        began_s = anyio.current_time()
        await collected(w)
        assert anyio.current_time() - began_s == pytest.approx(1.0)


async def test_every_worker_is_prepared_though_one_cannot_be(tmp_path):
    bare = group(NAMES)
    async with running(tmp_path, 3, faults=FaultPlan().kill("worker-1", "build"), ports=PORTS) as w:
        made = exchange(w, SIZES)
        left_out = LeftOut()
        digests = await prepare_all(made, [(slot, bare) for slot in w.slots], left_out)
        assert set(digests) == {"worker-0", "worker-2"}
        assert len(set(digests.values())) == 1
        assert [left_out.holds(slot) for slot in w.slots] == [False, True, False]
        assert left_out.reasons(())["worker-1"].startswith("node_died")
        assert await prepare_all(made, [(w.slots["worker-0"], bare)], left_out) == {}
        made.close()
