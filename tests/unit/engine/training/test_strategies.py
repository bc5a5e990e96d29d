"""How a round's work is divided, and that its result is the one that anybody can compute from its parts."""

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.coordinate_median import CoordinateMedian
from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.engine.reports import TrainingConfig
from flow_nexus_neural.engine.training.collect import Pace, prepare_all
from flow_nexus_neural.engine.training.combining import Combiner
from flow_nexus_neural.engine.training.delivery import Delivery
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.strategies import (
    ClientHistory,
    RoundSetting,
    federated_round,
    local_sgd_round,
)
from flow_nexus_neural.errors import NoWorkers, RoundFailed
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import (
    BATCH,
    START,
    claims,
    exchange,
    group,
    lying,
    trained,
    training_rows,
)

SIZES = (12, 7, 9)
NAMES = ["worker-0", "worker-1", "worker-2"]
RUN = (17, 2)
NUMBER = 4
PATIENT = Ports(patience=Patience(silence_s=1e6))


@pytest.fixture
def anyio_backend():
    return virtual_time()


def config(**more):
    values = {
        "epochs": 5,
        "batch_size": BATCH,
        "learning_rate": 0.05,
        "optimizer": "sgd",
        "federated": True,
        "rounds": 5,
        "local_epochs": 2,
        "clients_per_round": 3,
        "min_nodes_per_round": 1,
        "aggregation_method": "federated_averaging",
        "partition": "iid",
        "seed": RUN[0],
        "strategy": "federated",
        "sync_every_steps": None,
        "refit": False,
        "class_weight": None,
        "threshold": None,
        "positive_class": None,
        "patience": 0,
        "chosen": [],
    }
    return TrainingConfig(**values | more)


LOCAL = {"federated": False, "strategy": "local_sgd", "local_epochs": 1}


class Worked:
    """What a round made, and the shards it made it of."""

    def __init__(self, work, shards, history):
        self.work, self.shards, self.history = work, shards, history

    @property
    def slots(self):
        return [update.slot for update in self.work.updates]

    @property
    def params(self):
        return self.work.states["c0"].params


async def one_round(w, round_, *, least=1, policy=None, groups=None, sizes=SIZES, **more):
    made, history, left_out = exchange(w, sizes), ClientHistory(), LeftOut()
    setting = RoundSetting(
        context=w.engine.context,
        exchange=made,
        config=config(**more),
        least_workers=least,
        run=RUN,
        groups=groups or {},
        asked=history,
        pace=Pace(),
        left_out=left_out,
        delivery=Delivery(
            cluster=w.cluster,
            exchange=made,
            combiner=Combiner(w.engine.context, policy or FederatedAveraging(), None, RUN, 1),
            left_out=left_out,
            audited=False,
        ),
    )
    members = [(slot, START) for slot in w.slots.healthy("worker")]
    await prepare_all(made, members, left_out)
    try:
        return Worked(await round_(setting, NUMBER, members), made.shards, history)
    finally:
        made.close()


def seed(slot, counter, purpose):
    return seed64(RUN, NUMBER, slot, counter, purpose)


def averaged(parts, rows):
    return np.average(np.stack(parts), axis=0, weights=rows)


async def test_a_federated_round_is_the_mean_of_local_epochs_by_rows(tmp_path):
    async with running(tmp_path, 3) as w:
        found = await one_round(w, federated_round)
        own = [
            trained(
                START.state.params,
                training_rows(),
                found.shards[name],
                [(seed(name, epoch, "order"), 0, None) for epoch in range(2)],
            )
            for name in NAMES
        ]
        expected = averaged([params for params, _, _ in own], SIZES)
        np.testing.assert_allclose(found.params, expected, rtol=1e-4)
        assert found.slots == NAMES
        losses = [update.loss for update in found.work.updates]
        assert losses == pytest.approx([loss for _, loss, _ in own], rel=1e-4)
        assert [update.steps for update in found.work.updates] == [6, 4, 6]


async def test_the_policy_decides_what_the_updates_become(tmp_path):
    async with running(tmp_path, 3) as w:
        found = await one_round(w, federated_round, policy=CoordinateMedian())
        own = np.stack([update.state.params for update in found.work.updates])
        np.testing.assert_allclose(found.params, np.median(own, axis=0), rtol=1e-5)
        evidence = found.work.evidence["c0"]
        assert (evidence["rule"], evidence["f"]) == ("coordinate_median", 1)
        assert evidence["distance"].keys() == set(NAMES)


async def test_only_as_many_clients_are_asked_as_wanted_and_it_is_remembered(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 3, faults=faults) as w:
        found = await one_round(w, federated_round, clients_per_round=2)
        asked = [name for name in NAMES if faults.met(name, "train")]
        assert found.slots == asked
        assert len(asked) == 2
        for name in NAMES:
            client = found.history.client(name, "g")
            expected = (NUMBER, 1) if name in asked else (None, 0)
            assert (client.last_round, client.times_asked, client.group) == (*expected, "g")


def test_who_was_asked_longer_ago_is_told_apart():
    history = ClientHistory()
    history.asked(["worker-0", "worker-1"], 1)
    history.asked(["worker-1"], 5)
    assert history.client("worker-0", "").last_round == 1
    found = history.client("worker-1", "")
    assert (found.last_round, found.times_asked) == (5, 2)


async def test_fewer_than_the_caller_insists_on_train_nobody(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 3, faults=faults) as w:
        w.slots["worker-1"].fail("dead")
        with pytest.raises(NoWorkers, match=r"needs 3 workers \(min_nodes_per_round\) and 2"):
            await one_round(w, federated_round, least=3)
        assert [faults.met(name, "train") for name in NAMES] == [0, 0, 0]


async def test_fewer_than_the_usual_minimum_need_everyone_that_is_left(tmp_path):
    faults = FaultPlan().kill("worker-0", "train")
    async with running(tmp_path, 3, faults=faults) as w:
        w.slots["worker-1"].fail("dead")
        with pytest.raises(RoundFailed, match="1 of 2 needed updates"):
            await one_round(w, federated_round, min_nodes_per_round=3)


async def test_a_round_without_the_dead_names_them(tmp_path):
    faults = FaultPlan().kill("worker-1", "train")
    async with running(tmp_path, 3, faults=faults) as w:
        found = await one_round(w, federated_round)
        assert found.slots == ["worker-0", "worker-2"]
        assert found.work.excluded["worker-1"].startswith("node_died")
        kept = [update.state.params for update in found.work.updates]
        np.testing.assert_allclose(found.params, averaged(kept, [12, 9]), rtol=1e-6)


async def test_bases_are_forgotten_whether_the_round_succeeds_or_not(tmp_path):
    services = []

    def make(spec):
        services.append(LinearService())
        return services[-1]

    faults = FaultPlan().kill("worker-0", "train").kill("worker-1", "train")
    async with running(tmp_path, 3, service=make, faults=faults) as w:
        with pytest.raises(RoundFailed):
            await one_round(w, federated_round)
        assert "publish:worker-2" in services[2].regions  # it was given its part,
        assert not any(key.startswith("base") for key in services[2].regions)  # and took part


def by_local_sgd(shards, stride):
    """The state after one epoch of all, averaged by rows every `stride` steps."""
    params, losses = START.state.params.astype("f8"), {name: [] for name in shards}
    n_steps = max(-(-len(rows) // BATCH) for rows in shards.values())
    for start in range(0, n_steps, stride):
        going = {name: rows for name, rows in shards.items() if len(rows) > start * BATCH}
        parts = []
        for name, rows in going.items():
            stop = min(start + stride, -(-len(rows) // BATCH))
            part, loss, steps = trained(
                params, training_rows(), rows, [(seed(name, 0, "order"), start, stop)]
            )
            parts.append(part)
            losses[name] += [loss] * steps
        params = averaged(parts, [len(rows) for rows in going.values()])
    return params, {name: float(np.mean(own)) for name, own in losses.items()}


@pytest.mark.parametrize("stride", [1, 2, 3, 100])
async def test_local_sgd_is_one_epoch_averaged_every_so_many_steps(tmp_path, stride):
    async with running(tmp_path, 3) as w:
        found = await one_round(w, local_sgd_round, sync_every_steps=stride, **LOCAL)
        params, losses = by_local_sgd(found.shards, stride)
        np.testing.assert_allclose(found.params, params, rtol=1e-4)
        assert found.slots == NAMES
        assert [update.steps for update in found.work.updates] == [3, 2, 3]
        told = {update.slot: update.loss for update in found.work.updates}
        assert told == pytest.approx(losses, rel=1e-4)


async def test_a_worker_with_few_rows_ends_before_the_others(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 3, faults=faults) as w:
        await one_round(w, local_sgd_round, sync_every_steps=1, sizes=(16, 3, 8), **LOCAL)
        assert [faults.met(name, "train") for name in NAMES] == [4, 1, 2]


async def test_a_worker_that_dies_between_two_averagings_has_its_earlier_part_in_the_result(
    tmp_path,
):
    faults = FaultPlan().kill("worker-0", "train", nth=2)
    async with running(tmp_path, 3, faults=faults) as w:
        found = await one_round(w, local_sgd_round, sync_every_steps=1, **LOCAL)
        by_slot = {update.slot: update for update in found.work.updates}
        assert by_slot["worker-0"].steps == 1
        assert found.work.excluded["worker-0"].startswith("from step 1 to 2 of 3: node_died")
        assert by_slot["worker-2"].steps == 3


async def test_no_delivery_in_a_part_fails_the_round(tmp_path):
    faults = FaultPlan()
    for name in NAMES:
        faults.kill(name, "train", nth=2)
    async with running(tmp_path, 3, faults=faults) as w:
        with pytest.raises(RoundFailed):
            await one_round(w, local_sgd_round, sync_every_steps=1, **LOCAL)


class LiesOnce(LinearService):
    """Claims too many steps in its first training request."""

    lies = 1

    def on_train(self, request, arrays, poll):
        reply, made = super().on_train(request, arrays, poll)
        if self.lies:
            self.lies -= 1
            reply = claims(steps=1000, opt_step=request.opt_step + 1000)(self, request, reply)
        return reply, made


def first_lies_once(spec):
    return LiesOnce() if spec.slot == "worker-0" else LinearService()


async def test_updates_are_listed_in_slot_order_also_when_one_was_late_in_an_early_part(tmp_path):
    faults = FaultPlan().slow("worker-0", "train", delay_s=8)
    async with running(tmp_path, 3, faults=faults, ports=PATIENT) as w:
        found = await one_round(w, local_sgd_round, sync_every_steps=1, **LOCAL)
        assert found.slots == NAMES
        assert [update.steps for update in found.work.updates] == [2, 2, 3]
        assert found.work.excluded == {"worker-0": "from step 0 to 1 of 3: late"}


async def test_who_was_refused_in_an_early_part_is_not_asked_again_and_contributes_nothing(
    tmp_path,
):
    faults = FaultPlan()
    async with running(tmp_path, 3, faults=faults, service=first_lies_once) as w:
        found = await one_round(w, local_sgd_round, sync_every_steps=1, **LOCAL)
        assert found.slots == NAMES[1:]
        assert faults.met("worker-0", "train") == 1
        assert found.work.excluded == {
            "worker-0": "from step 0 to 1 of 3: the update of worker-0 claims 1000 steps"
        }


async def test_who_was_never_admitted_is_only_left_out(tmp_path):
    service = lying(claims(steps=1000, opt_step=1000), "worker-0")
    async with running(tmp_path, 3, service=service) as w:
        found = await one_round(w, local_sgd_round, sync_every_steps=1, sizes=(9, 9, 9), **LOCAL)
        assert found.slots == NAMES[1:]
        assert set(found.work.excluded) == {"worker-0"}


async def test_equal_seeds_give_equal_bytes_and_other_rounds_other_orders(tmp_path):
    made = []
    for name in ("one", "two"):
        async with running(tmp_path / name, 3) as w:
            made.append((await one_round(w, local_sgd_round, **LOCAL)).params.tobytes())
    assert made[0] == made[1]
    orders = {seed64(RUN, number, "worker-0", 0, "order") for number in range(9)}
    assert len(orders) == 9


async def test_each_network_group_is_folded_from_its_own_workers_only(tmp_path):
    async with running(tmp_path, 3) as w:
        made = exchange(w, SIZES)
        one = group(NAMES[:2], params=[0.1, 0.2, 0.3, 0.4], key="c0")
        other = group(NAMES[2:], params=[1.0, 1.0, 1.0, 1.0], key="c1")
        members = [(w.slots[name], one if name in one.slots else other) for name in NAMES]
        await prepare_all(made, members, LeftOut())
        setting = RoundSetting(
            w.engine.context,
            made,
            config(),
            1,
            RUN,
            {},
            ClientHistory(),
            Pace(),
            LeftOut(),
            Delivery(
                w.cluster,
                made,
                Combiner(w.engine.context, FederatedAveraging(), None, RUN, 1),
                LeftOut(),
                audited=False,
            ),
        )
        work = await federated_round(setting, NUMBER, members)
        own = {update.slot: update.state.params for update in work.updates}
        expected = averaged([own[name] for name in NAMES[:2]], SIZES[:2])
        np.testing.assert_allclose(work.states["c0"].params, expected, rtol=1e-6)
        np.testing.assert_array_equal(work.states["c1"].params, own["worker-2"])
        made.close()
