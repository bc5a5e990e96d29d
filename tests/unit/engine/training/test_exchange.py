"""A worker gets its own rows and no others, and its update is believed only as far as it can be checked."""

import anyio
import numpy as np
import pytest

from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.base_states import BaseStates
from flow_nexus_neural.engine.training.exchange import TRAINING, mean_loss
from flow_nexus_neural.engine.training.tasks import Task
from flow_nexus_neural.errors import NodeDied, NodeError, UpdateRejected
from flow_nexus_neural.protocol.messages import Failed, Pass, Weights
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
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

SIZES = (12, 7)
PATIENT = Ports(patience=Patience(silence_s=1e6))
ONE_EPOCH = (Pass(order_seed=11),)


@pytest.fixture
def anyio_backend():
    return virtual_time()


class Services(dict):
    """Makes honest services and keeps the newest of each slot."""

    def __call__(self, spec):
        self[spec.slot] = LinearService()
        return self[spec.slot]


async def one_update(w, made, name="worker-0", passes=ONE_EPOCH, start=START, *, copied=True):
    slot = w.slots[name]
    await made.prepare(slot, start)
    async with BaseStates(made, [(slot, start)]) as bases:
        return await made.train(
            Task(
                slot=slot,
                network=start,
                base=bases.of(slot, start),
                copied=copied,
                opt_step=start.state.opt_step,
                passes=passes,
                dropout_seed=3,
                work=1.0,
            )
        )


async def test_a_worker_is_built_and_granted_once_per_process(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 2, faults=faults) as w:
        made, slot = exchange(w, SIZES), w.slots["worker-0"]
        builds = faults.met("worker-0", "build")
        digest = await made.prepare(slot, START)
        assert digest is not None
        assert made.is_ready(slot)
        assert await made.prepare(slot, START) is None
        assert faults.met("worker-0", "build") == builds + 1
        assert slot.built[TRAINING] == START.plan_digest
        node = w.node("worker-0")
        node.kill()
        await node.wait_exit()
        await anyio.wait_all_tasks_blocked()
        await w.deploy(layers=None)
        assert not made.is_ready(slot)  # a new process has nothing of it
        assert await made.prepare(slot, START) == digest
        made.close()


async def test_a_worker_holds_the_rows_of_its_own_shard_and_no_others(tmp_path):
    services = Services()
    async with running(tmp_path, 2, service=services) as w:
        rows, made = training_rows(), exchange(w, SIZES)
        for slot in w.slots:
            await made.prepare(slot, START)
        for name, chosen in made.shards.items():
            held = services[name].regions
            assert [key for key in held if key.startswith("shard")] == [f"shard:{name}"]
            np.testing.assert_array_equal(held[f"shard:{name}"]["x"], rows.x[chosen])
            np.testing.assert_array_equal(held[f"shard:{name}"]["y"], rows.y[chosen])
        assert made.rows_of("worker-0") == 12
        assert made.rows_of("worker-9") == 0
        made.close()


async def test_a_worker_that_is_lent_rows_has_those_of_one_client_at_a_time(tmp_path):
    services = Services()
    async with running(tmp_path, 2, service=services) as w:
        rows, made, slot = training_rows(), exchange(w, SIZES), w.slots["worker-0"]
        made.lends = True
        await made.prepare(slot, START)
        held = services["worker-0"].regions
        assert not any(key.startswith("shard") for key in held)
        for chosen in (np.array([3, 5]), np.array([9, 8, 1])):
            await made.lend(slot, chosen)
            np.testing.assert_array_equal(held["shard:worker-0"]["x"], rows.x[chosen])
            assert made.rows_of("worker-0") == len(chosen)
        await made.take_back(slot)
        assert not any(key.startswith("shard") for key in held)
        await made.take_back(slot)  # there is nothing left to forget
        made.close()


async def test_times_of_asking_are_numbered_over_all_trainings_of_an_engine(tmp_path):
    async with running(tmp_path, 2) as w:
        first, second = exchange(w, SIZES), exchange(w, SIZES)
        assert next(first.times_asked) < next(second.times_asked) < next(first.times_asked)


async def test_every_worker_draws_the_same_initial_weights_from_the_clusters_seed(tmp_path):
    bare = group(["worker-0", "worker-1"], optimizer="adagrad")
    async with running(tmp_path, 2) as w:
        made, states = exchange(w, SIZES), []
        for slot in w.slots:
            await made.prepare(slot, bare)
            states.append(await made.initial_state(slot, bare))
        assert states[0].params.tobytes() == states[1].params.tobytes()
        assert states[0].params.any()
        assert states[0].opt_step == 0
        np.testing.assert_array_equal(states[0].moments["v"], np.full(4, 0.1, "f4"))
        made.close()


class WrongWeights(LinearService):
    """Sends weights that are not finite, or that have not the digest that it says."""

    way = "nan"

    def on_get_weights(self, request, arrays, poll):
        if self.way == "nan":
            self.serving[request.network] = np.full(4, np.nan, "f4")
            return super().on_get_weights(request, arrays, poll)
        _, made = super().on_get_weights(request, arrays, poll)
        return Weights(digest="0" * 64), made


class WrongDigest(WrongWeights):
    way = "digest"


@pytest.mark.parametrize("service", [WrongWeights, WrongDigest])
async def test_initial_weights_that_cannot_be_are_refused(tmp_path, service):
    async with running(tmp_path, 1, service=lambda spec: service()) as w:
        made = exchange(w, (12,))
        await made.prepare(w.slots["worker-0"], START)
        with pytest.raises(UpdateRejected, match="do not have their digest"):
            await made.initial_state(w.slots["worker-0"], START)
        made.close()


async def test_an_update_is_what_plain_gradient_steps_give(tmp_path):
    async with running(tmp_path, 2) as w:
        made = exchange(w, SIZES)
        passes = (Pass(order_seed=11), Pass(order_seed=12, start=1, stop=3))
        update = await one_update(w, made, passes=passes)
        params, loss, steps = trained(
            START.state.params,
            training_rows(),
            made.shards["worker-0"],
            [(11, 0, None), (12, 1, 3)],
        )
        np.testing.assert_allclose(update.state.params, params, rtol=1e-4)
        assert update.loss == pytest.approx(loss, rel=1e-4)
        assert (update.steps, update.state.opt_step) == (steps, steps) == (5, 5)
        assert update.digest == START.digest_of(update.state)
        assert (update.slot, update.rows) == ("worker-0", 12)
        made.close()


async def test_an_update_stays_what_it_was_when_the_worker_writes_on(tmp_path):
    services = Services()
    async with running(tmp_path, 1, service=services) as w:
        made = exchange(w, (12,))
        update = await one_update(w, made)
        before = update.state.params.tobytes()
        services["worker-0"].regions["publish:worker-0"]["params"][...] = 99
        await one_update(w, made)
        assert update.state.params.tobytes() == before
        made.close()


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (publishes(np.nan), "not finite"),
        (publishes(np.inf), "not finite"),
        (publishes(7.0, digest_of_it=False), "does not have the digest"),
        (claims(steps=4, opt_step=4), "claims 4 steps"),
        (claims(steps=2, opt_step=3), "claims 2 steps"),
    ],
)
async def test_an_update_that_cannot_be_checked_is_refused(tmp_path, lie, told):
    async with running(tmp_path, 1, service=lying(lie, "worker-0")) as w:
        made = exchange(w, (12,))
        with pytest.raises(UpdateRejected, match=told) as refusal:
            await one_update(w, made)
        assert refusal.value.code == "update_rejected"
        assert w.slots["worker-0"].healthy  # a refusal is no failure of the node
        made.close()


async def test_a_negative_second_moment_is_refused_because_its_root_is_taken(tmp_path):
    def negative(service, request, reply):
        service.regions[request.publish]["v"][...] = -1e-6
        return reply

    start = group(["worker-0"], optimizer="rmsprop", params=[0.1, 0.2, 0.3, 0.4])
    async with running(tmp_path, 1, service=lying(negative, "worker-0")) as w:
        made = exchange(w, (12,))
        with pytest.raises(UpdateRejected, match="negative second moment"):
            await one_update(w, made, start=start)
        made.close()


async def test_fewer_steps_than_asked_for_are_believed(tmp_path):
    async with running(tmp_path, 1, service=lying(claims(steps=1, opt_step=1), "worker-0")) as w:
        made = exchange(w, (12,))
        assert (await one_update(w, made)).steps == 1
        made.close()


async def test_bytes_of_base_shard_and_update_are_counted_where_they_belong(tmp_path):
    async with running(tmp_path, 1) as w:
        made, counted = exchange(w, (12,)), w.cluster.metrics.bytes_by_category
        sync = counted["sync"]
        await made.prepare(w.slots["worker-0"], START)
        assert counted["sync"] - sync > 12 * 4 * 4  # the shard's floats
        assert counted["train"] == 0
        await one_update(w, made)
        assert counted["train"] > 2 * 4 * 4
        made.close()


async def test_only_slots_whose_rows_changed_are_granted_anew(tmp_path):
    services = Services()
    async with running(tmp_path, 2, service=services) as w:
        made = exchange(w, SIZES)
        for slot in w.slots:
            await made.prepare(slot, START)
        same = dict(made.shards)
        assert made.reshard(same) == 0
        assert all(made.is_ready(slot) for slot in w.slots)
        moved = {"worker-0": same["worker-0"], "worker-1": np.arange(20, 30)}
        assert made.reshard(moved) == 1
        assert made.is_ready(w.slots["worker-0"])
        assert not made.is_ready(w.slots["worker-1"])
        await made.prepare(w.slots["worker-1"], START)
        held = services["worker-1"].regions["shard:worker-1"]
        np.testing.assert_array_equal(held["y"], training_rows().y[20:30])
        assert made.reshard({"worker-0": same["worker-0"]}) == 1  # one that has none any more
        assert made.rows_of("worker-1") == 0
        made.close()


async def test_no_row_outlives_its_training_in_a_node(tmp_path):
    services = Services()
    async with running(tmp_path, 2, service=services) as w:
        made = exchange(w, SIZES)
        for slot in w.slots:
            await made.prepare(slot, START)
        assert [len(services[name].regions) for name in ("worker-0", "worker-1")] == [2, 2]
        await made.release(list(w.slots))
        assert [service.regions for service in services.values()] == [{}, {}]
        made.close()
        assert not made.is_ready(w.slots["worker-0"])


async def test_a_base_is_forgotten_when_its_exchange_is_over(tmp_path):
    services = Services()
    async with running(tmp_path, 1, service=services) as w:
        made = exchange(w, (12,))
        await one_update(w, made)
        assert not any(key.startswith("base") for key in services["worker-0"].regions)
        made.close()


async def test_a_worker_that_dies_in_training_fails_its_call(tmp_path):
    async with running(tmp_path, 1, faults=FaultPlan().kill("worker-0", "train")) as w:
        made = exchange(w, (12,))
        with pytest.raises(NodeDied):
            await one_update(w, made)
        made.close()


class Deaf(LinearService):
    def on_cancel(self, request, arrays, poll):
        return Failed(type="ValueError", message="no"), {}


async def test_who_does_not_obey_a_cancellation_is_killed_and_who_refuses_lives(tmp_path):
    faults = FaultPlan().ignore("worker-0", "cancel")

    def make(spec):
        return Deaf() if spec.slot == "worker-1" else LinearService()

    async with running(tmp_path, 2, faults=faults, service=make, ports=PATIENT) as w:
        made, nodes = exchange(w, SIZES), [w.node("worker-0"), w.node("worker-1")]
        for slot in list(w.slots):
            await made.cancel(slot)
        assert [node.gone for node in nodes] == [True, False]
        with pytest.raises(NodeError):
            await made.prepare(w.slots["worker-0"], START)
        await made.cancel(w.slots["worker-0"])  # nothing is left to cancel
        made.close()


def update(loss, rows):
    return Update(
        "worker-0", START.state, "d", rows=rows, steps=1, opt_step=1, loss=loss, cpu_s=0.0
    )


def test_the_training_loss_is_the_mean_over_rows_and_unknown_when_one_is():
    assert mean_loss([update(1.0, 30), update(3.0, 10)]) == pytest.approx(1.5)
    assert mean_loss([update(1.0, 30), update(None, 10)]) is None
    assert mean_loss([]) is None
