"""A silent node is pinged, doubted and killed, each at its time; a slow one is not."""

from dataclasses import replace

import anyio
import pytest

from flow_nexus_neural.engine.nodes.supervision import supervise
from flow_nexus_neural.engine.patience import USUAL_PATIENCE, Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.protocol.messages import Failed, Pong
from flow_nexus_neural.runtime.base import ProcessorTime
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.limits import HANG_S
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import running, virtual_time

PATIENCE = Patience(silence_s=10.0, ping_s=2.0, min_grace_s=1.0, max_grace_s=60.0, first_step_s=8.0)
PORTS = Ports(patience=PATIENCE)
SLOT = "worker-0"


@pytest.fixture
def anyio_backend():
    return virtual_time()


class SaysSteps(LinearService):
    """Answers pings, and says that its longest step took so long."""

    def __init__(self, longest_step_ms=0.0):
        super().__init__()
        self.longest_step_ms = longest_step_ms

    def on_ping(self, request, arrays, poll):
        return Pong(busy=None, steps_done=0, longest_step_ms=self.longest_step_ms), {}


class FailsAtPings(LinearService):
    def on_ping(self, request, arrays, poll):
        return Failed(type="ValueError", message="no"), {}


def world(tmp_path, faults=None, service=None, ports=PORTS):
    return running(tmp_path, 1, faults=faults, service=service, ports=ports)


async def until_dead(w):
    began_s = anyio.current_time()
    with anyio.fail_after(100 * HANG_S):
        while w.slots[SLOT].handle is not None:
            await w.cluster.changes.wait_beyond(w.cluster.changes.count)
    return anyio.current_time() - began_s


async def test_a_node_is_pinged_after_silence_and_not_before(tmp_path):
    faults = FaultPlan()
    async with world(tmp_path, faults) as w:
        await anyio.sleep(9.9)
        assert faults.met(SLOT, "ping") == 0
        await anyio.sleep(0.2)
        assert faults.met(SLOT, "ping") == 1
        assert w.slots[SLOT].heard_at_s == pytest.approx(anyio.current_time(), abs=0.11)
        await anyio.sleep(50)
        assert faults.met(SLOT, "ping") == 6
        assert w.slots[SLOT].healthy


async def test_a_node_that_is_asked_all_the_time_needs_no_ping(tmp_path):
    faults = FaultPlan()
    async with world(tmp_path, faults) as w:
        for _ in range(20):
            await anyio.sleep(5)
            w.slots[SLOT].heard(anyio.current_time())  # as every answered call does
        assert faults.met(SLOT, "ping") == 0


async def test_a_frozen_node_is_killed_when_silence_ping_and_grace_are_over(tmp_path):
    faults = FaultPlan().freeze(SLOT, "ping")
    async with world(tmp_path, faults) as w:
        await anyio.sleep(12.5)
        assert w.slots[SLOT].state == "suspect"
        assert await until_dead(w) == pytest.approx(10 + 2 + 1 - 12.5)
        slot = w.slots[SLOT]
        assert slot.state == "failed"
        assert slot.last_error == ("node_timeout: silent for 13.0 s, taken for frozen and killed")
        assert faults.met(SLOT, "ping") == 2


async def test_one_missed_ping_is_forgiven_when_the_second_is_answered(tmp_path):
    async with world(tmp_path, FaultPlan().ignore(SLOT, "ping")) as w:
        states = []
        w.engine.on_change(lambda _: states.append(w.slots[SLOT].state))
        await anyio.sleep(100)
        assert states == ["suspect", "healthy"]
        assert w.slots[SLOT].last_error is None


@pytest.mark.parametrize(("step_s", "grace_s"), [(0.0, 1.0), (0.2, 1.0), (5.0, 15.0), (1e6, 60.0)])
async def test_the_grace_is_three_of_the_longest_steps_within_bounds(tmp_path, step_s, grace_s):
    faults = FaultPlan().freeze(SLOT, "ping", nth=2)
    async with world(tmp_path, faults, lambda spec: SaysSteps(step_s * 1e3)) as w:
        assert await until_dead(w) == pytest.approx(10 + 10 + 2 + grace_s)
        assert f"silent for {12 + grace_s:.1f} s" in w.slots[SLOT].last_error


async def test_a_node_at_work_whose_steps_nobody_timed_gets_the_grace_of_a_first_step(tmp_path):
    async with world(tmp_path, FaultPlan().freeze(SLOT, "ping")) as w:
        w.slots[SLOT].begin_call()  # it is asked something long
        assert await until_dead(w) == pytest.approx(10 + 2 + 8)


@pytest.mark.parametrize(("from_s", "dead_s"), [(0.0, 13.0), (15.5, 16.0), (1e9, 20.0)])
async def test_of_one_whose_process_is_stopped_no_long_step_is_awaited(tmp_path, from_s, dead_s):
    async with world(tmp_path, FaultPlan().freeze(SLOT, "ping")) as w:
        w.slots[SLOT].begin_call()
        began_s = anyio.current_time()
        handle = w.slots[SLOT].handle
        handle.is_stopped = lambda: anyio.current_time() - began_s >= from_s
        assert await until_dead(w) == pytest.approx(dead_s)
        assert ("its process is stopped" in w.slots[SLOT].last_error) is (from_s < 1e9)


class Scheduled:
    """What a scheduler says of a process that gets a share of each second, and wants it all or nothing."""

    def __init__(self, share, wants):
        self.share, self.wants, self.since_s = share, wants, anyio.current_time()

    def __call__(self):
        ran_s = self.share * (anyio.current_time() - self.since_s)
        return ProcessorTime(ran_s, waited_s=0.0, runnable=self.wants)


@pytest.mark.parametrize(
    ("share", "wants", "grace_s"),
    [(1.0, True, 1.0), (0.05, True, 20.0), (0.0, True, 60.0), (0.0, False, 1.0)],
    ids=["spins alone", "spins beside others", "never gets to run", "hangs"],
)
async def test_the_grace_is_of_the_time_in_which_its_process_could_answer(
    tmp_path, share, wants, grace_s
):
    async with world(tmp_path, FaultPlan().freeze(SLOT, "ping")) as w:
        w.slots[SLOT].handle.processor_time = Scheduled(share, wants)
        assert await until_dead(w) == pytest.approx(10 + 2 + grace_s, abs=0.1)


async def test_waits_for_a_processor_that_are_over_do_not_count(tmp_path):
    async with world(tmp_path, FaultPlan().freeze(SLOT, "ping")) as w:
        began_s = anyio.current_time()

        def waited():
            half_s = (anyio.current_time() - began_s) / 2
            return ProcessorTime(ran_s=0.0, waited_s=half_s, runnable=False)

        w.slots[SLOT].handle.processor_time = waited
        assert await until_dead(w) == pytest.approx(10 + 2 + 2, abs=0.01)


async def test_one_that_answers_something_else_meanwhile_is_not_frozen(tmp_path):
    faults = FaultPlan().ignore(SLOT, "ping").ignore(SLOT, "ping", nth=2)
    async with world(tmp_path, faults) as w:
        await anyio.sleep(12.5)
        assert w.slots[SLOT].state == "suspect"
        w.slots[SLOT].heard(anyio.current_time())  # as every answered call does
        await anyio.sleep(100)
        assert faults.met(SLOT, "ping") > 2
        assert w.slots[SLOT].healthy
        assert w.slots[SLOT].last_error is None


async def test_by_default_a_frozen_node_is_suspect_after_5_seconds_and_failed_within_10(tmp_path):
    """Idle, or at work with steps of up to a second and a half; one that has timed no step gets longer."""
    faults = FaultPlan().freeze(SLOT, "ping", nth=2)
    usual = Ports(patience=USUAL_PATIENCE)
    async with world(tmp_path, faults, lambda spec: SaysSteps(1500.0), usual) as w:
        await anyio.sleep(3.0)  # the first ping is answered
        began_s = anyio.current_time()
        await anyio.sleep(5.1)
        assert w.slots[SLOT].state == "suspect"
        await until_dead(w)
        assert anyio.current_time() - began_s <= 10.0


class SaysCourse(LinearService):
    """Answers pings with what it does, and with as many more steps at each."""

    def __init__(self, busy, steps):
        super().__init__()
        self.busy, self.steps, self.done = busy, steps, 0

    def on_ping(self, request, arrays, poll):
        self.done += self.steps
        return Pong(busy=self.busy, steps_done=self.done, longest_step_ms=1.0), {}


@pytest.mark.parametrize("busy", [None, "train"])
async def test_one_that_answers_pings_and_never_gets_on_is_killed(tmp_path, busy):
    async with world(tmp_path, service=lambda spec: SaysCourse(busy, 0)) as w:
        w.slots[SLOT].begin_call()
        assert 60 < await until_dead(w) <= 60 + 2 * 10
        assert "made no step" in w.slots[SLOT].last_error


@pytest.mark.parametrize(
    ("busy", "steps", "asked"), [("train", 1, True), ("evaluate", 0, True), (None, 0, False)]
)
async def test_one_that_gets_on_or_is_asked_nothing_lives(tmp_path, busy, steps, asked):
    async with world(tmp_path, service=lambda spec: SaysCourse(busy, steps)) as w:
        if asked:
            w.slots[SLOT].begin_call()
        await anyio.sleep(1000.0)
        assert w.slots[SLOT].healthy


@pytest.mark.parametrize(("steps", "lives"), [(1, True), (0, False)])
async def test_one_that_waits_for_another_of_its_process_gets_on_as_that_one_does(
    tmp_path, monkeypatch, steps, lives
):
    def service(spec):
        return SaysCourse("train", steps) if spec.slot == "worker-1" else SaysCourse(None, 0)

    async with running(tmp_path, 2, service=service, ports=PORTS) as w:
        handles = [w.slots[name].handle for name in (SLOT, "worker-1")]
        monkeypatch.setattr(type(handles[0]), "pid", 7)
        for handle, other in zip(handles, ("worker-1", SLOT), strict=True):
            handle.isolation = replace(handle.isolation, shared_with=(other,))
            w.slots[handle.spec.slot].begin_call()
        await anyio.sleep(1000.0)
        assert w.slots[SLOT].healthy == lives


async def at_work(w, products, batch_size=500):
    """The worker trains a network of so many multiplications a row, and is in its first step."""
    training = await w.train()
    network = next(iter(training.starts.values()))
    plan = network.plan
    (layer,) = plan.layers
    wide = layer.model_copy(
        update={"in_shape": (products // layer.tensors[0].size, 1), "tensors": layer.tensors[:1]}
    )
    large = replace(network, plan=plan.model_copy(update={"layers": (wide,)}))
    config = training.config.model_copy(update={"batch_size": batch_size})
    training.starts, training.config, training.status = {"a": large}, config, "running"
    w.slots[SLOT].begin_call()


@pytest.mark.parametrize(("products", "grace_s"), [(3 * 10**4, 8), (10**8, 150), (10**12, 3600)])
async def test_a_first_step_may_take_as_long_as_its_network_and_batch_need(
    tmp_path, products, grace_s
):
    faults = FaultPlan()
    async with world(tmp_path, faults) as w:
        await at_work(w, products)
        faults.freeze(SLOT, "ping")
        assert await until_dead(w) == pytest.approx(10 + 2 + grace_s, abs=0.1)


async def test_so_may_one_of_a_node_that_timed_the_steps_of_a_smaller_network(tmp_path):
    faults = FaultPlan().freeze(SLOT, "ping", nth=2)
    async with world(tmp_path, faults, lambda spec: SaysSteps(1.0)) as w:
        await anyio.sleep(10.5)  # the first ping is answered
        await at_work(w, 10**8)
        heard_at_s = w.slots[SLOT].heard_at_s
        await until_dead(w)
        assert anyio.current_time() - heard_at_s == pytest.approx(10 + 2 + 150, abs=0.1)


@pytest.mark.parametrize(("others", "limit_s"), [((), 150), (("worker-1", "worker-2"), 450)])
async def test_one_that_answers_pings_has_as_long_for_a_step_of_all_in_its_process(
    tmp_path, others, limit_s
):
    async with world(tmp_path, service=lambda spec: SaysCourse("train", 0)) as w:
        await at_work(w, 10**8)
        handle = w.slots[SLOT].handle
        handle.isolation = replace(handle.isolation, shared_with=others)
        assert limit_s < await until_dead(w) <= limit_s + 2 * 10
        assert "made no step" in w.slots[SLOT].last_error


STEPS, STEP_S = 200, 0.2


@pytest.mark.parametrize(
    ("busy", "steps"), [("train", 7), ("evaluate", 0), ("evaluate", 7), (None, 7)]
)
@pytest.mark.parametrize(
    ("share", "wants"), [(1.0, True), (0.0, False)], ids=["spins", "does nothing"]
)
async def test_one_that_claims_work_or_steps_for_ever_has_as_long_as_what_it_was_asked_takes(
    tmp_path, busy, steps, share, wants
):
    """A minute, and what its steps take by the network and the rows: whatever it says of them."""
    async with world(tmp_path, service=lambda spec: SaysCourse(busy, steps)) as w:
        w.slots[SLOT].handle.processor_time = Scheduled(share, wants)
        with w.cluster.ordering(w.slots[SLOT], STEPS, STEP_S):
            w.slots[SLOT].begin_call()
            lived_s = await until_dead(w)
        most_s = 60 + STEPS * STEP_S
        assert lived_s <= most_s + 3 * 10
        if steps:
            assert lived_s > most_s
            assert "has not finished 200 steps" in w.slots[SLOT].last_error


async def test_one_with_few_steps_may_wait_for_another_of_its_process_with_many(tmp_path):
    """Unequal shards: the other is trained first, and its order is answered before this one begins."""
    async with running(tmp_path, 2, service=lambda spec: SaysCourse("train", 1), ports=PORTS) as w:
        slot, other = w.slots[SLOT], w.slots["worker-1"]
        slot.handle.isolation = replace(slot.handle.isolation, shared_with=(other.name,))
        slot.handle.processor_time = Scheduled(1.0, wants=True)
        began_s = anyio.current_time()
        with w.cluster.ordering(slot, 1, STEP_S):
            slot.begin_call()
            with w.cluster.ordering(other, 1500, STEP_S):
                await anyio.sleep(290.0)
            await anyio.sleep(60.0)
            assert slot.healthy
            await until_dead(w)
        assert anyio.current_time() - began_s <= 60 + 1500 * STEP_S + 3 * 10


async def test_requests_that_it_answers_meanwhile_do_not_let_a_liar_live_on(tmp_path):
    """As predictions, or the votes of raft: it is heard all the time, and numbers of requests go up."""
    async with world(tmp_path, service=lambda spec: SaysCourse("train", 1)) as w:
        slot = w.slots[SLOT]
        slot.handle.processor_time = Scheduled(1.0, wants=True)
        with w.cluster.ordering(slot, STEPS, STEP_S):
            slot.begin_call()
            for _ in range(200):
                await anyio.sleep(1.0)
                slot.heard(anyio.current_time())
                slot.begin_call()
                slot.end_call()
                if slot.handle is None:
                    break
        assert slot.handle is None
        assert "has not finished" in slot.last_error


@pytest.mark.parametrize("share", [0.5, 0.05])
async def test_honest_work_that_waits_for_processors_is_never_ended(tmp_path, share):
    """Ten processes on one core: it takes twenty times as long as it would alone."""
    async with world(tmp_path, service=lambda spec: SaysCourse("train", 1)) as w:
        w.slots[SLOT].handle.processor_time = Scheduled(share, wants=True)
        with w.cluster.ordering(w.slots[SLOT], STEPS, STEP_S):
            w.slots[SLOT].begin_call()
            await anyio.sleep(0.9 * STEPS * STEP_S / share)
        w.slots[SLOT].end_call()
        await anyio.sleep(1000.0)
        assert w.slots[SLOT].healthy


async def test_every_order_has_a_time_of_its_own(tmp_path):
    async with world(tmp_path, service=lambda spec: SaysCourse("train", 1)) as w:
        w.slots[SLOT].handle.processor_time = Scheduled(1.0, wants=True)
        w.slots[SLOT].begin_call()
        for _ in range(20):
            with w.cluster.ordering(w.slots[SLOT], STEPS, STEP_S):
                await anyio.sleep(STEPS * STEP_S)
        assert w.slots[SLOT].healthy


async def test_where_no_scheduler_tells_who_had_the_processor_ten_times_as_long_is_waited(tmp_path):
    async with world(tmp_path, service=lambda spec: SaysCourse("train", 1)) as w:
        with w.cluster.ordering(w.slots[SLOT], STEPS, STEP_S):
            w.slots[SLOT].begin_call()
            lived_s = await until_dead(w)
        assert 10 * 100 < lived_s <= 10 * 100 + 3 * 10


@pytest.mark.parametrize(("others", "limit_s"), [((), 100), (("worker-1", "worker-2"), 180)])
async def test_nodes_that_make_their_steps_as_one_have_the_time_of_all(tmp_path, others, limit_s):
    async with world(tmp_path, service=lambda spec: SaysCourse("train", 1)) as w:
        handle = w.slots[SLOT].handle
        handle.processor_time = Scheduled(1.0, wants=True)
        handle.isolation = replace(handle.isolation, shared_with=others)
        with w.cluster.ordering(w.slots[SLOT], STEPS, STEP_S):
            w.slots[SLOT].begin_call()
            assert limit_s < await until_dead(w) <= limit_s + 3 * 10


async def test_a_step_may_take_what_its_order_says_also_where_rows_are_protected_one_by_one(
    tmp_path,
):
    async with world(tmp_path, service=lambda spec: SaysCourse("train", 0)) as w:
        await at_work(w, 10)
        w.slots[SLOT].handle.processor_time = Scheduled(1.0, wants=True)
        with w.cluster.ordering(w.slots[SLOT], 5, 200.0):
            assert 200 < await until_dead(w) <= 200 + 3 * 10
        assert "made no step" in w.slots[SLOT].last_error


async def test_a_node_that_fails_at_a_ping_is_killed_for_that(tmp_path):
    async with world(tmp_path, service=lambda spec: FailsAtPings()) as w:
        assert await until_dead(w) == pytest.approx(10)
        assert w.slots[SLOT].last_error.startswith("protocol_violation: a ping failed")
        assert w.slots[SLOT].state == "failed"


async def test_a_process_that_was_replaced_is_looked_after_no_longer(tmp_path):
    async with world(tmp_path) as w:
        former = w.slots[SLOT].handle
        w.node(SLOT).kill()
        await until_dead(w)
        await w.deploy(layers=None)
        assert w.slots[SLOT].handle is not former
        with anyio.fail_after(HANG_S):
            await supervise(w.cluster, w.slots[SLOT], former)  # ends at once
        assert w.slots[SLOT].healthy


async def test_bytes_of_pings_are_counted_as_synchronisation(tmp_path):
    async with world(tmp_path) as w:
        before = dict(w.cluster.metrics.bytes_by_category)
        await anyio.sleep(10.5)
        after = w.cluster.metrics.bytes_by_category
        assert after["sync"] > before["sync"]
        assert after["train"] == before["train"] == 0
