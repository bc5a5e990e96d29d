"""A training runs round by round until its end, whatever happens on the way, and its end is always told."""

from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest

from flow_nexus_neural.coordination.rounds import RoundPatience
from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.engine.training.preparation import prepare_training
from flow_nexus_neural.engine.training.run import TrainingRun
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.doubles.linear_service import LinearService
from tests.unit.engine.building import training as record
from tests.unit.engine.running import OTHER_LAYERS, running, virtual_time
from tests.unit.engine.training.by_hand import lying, publishes

ATTEMPTS = 3
PORTS = Ports(
    patience=Patience(
        silence_s=1e6,
        attempts=ATTEMPTS,
        comeback_s=20.0,
        respawn_delays_s=(2.0,),
        rounds=RoundPatience(least_s=3.0, first_slack_s=5.0),
    )
)


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def rounds_done(w, n):
    """Wait until so many rounds are committed."""
    while w.cluster.state.latest_training.advance.rounds_done < n:
        await w.cluster.changes.wait_beyond(w.cluster.changes.count)


async def begun(w, **more):
    await w.engine.train(w.train_request(**more))
    return w.cluster.run


def contributors(entry):
    return [one["slot"] for one in entry["contributors"]]


async def test_every_round_is_a_version_and_a_point_of_the_history(tmp_path):
    async with running(tmp_path, 2, ports=PORTS) as w:
        training = await w.train(epochs=4, federated=True)
        assert (training.status, training.error, training.percent) == ("completed", None, 100.0)
        assert [point.round for point in training.history] == [1, 2, 3, 4]
        entries = await w.ledger("version")
        assert [entry["round"] for entry in entries] == [1, 2, 3, 4]
        assert {entry["training_id"] for entry in entries} == {training.training_id}
        assert entries[-1]["weights_digest"] == training.advance.digest_after
        assert w.committed.version == 4
        losses = [point.train_loss for point in training.history]
        assert losses == sorted(losses, reverse=True)


async def test_the_end_is_durable_and_nothing_of_it_is_left_in_the_nodes(tmp_path):
    services = []

    def make(spec):
        services.append((spec.slot, LinearService()))
        return services[-1][1]

    async with running(tmp_path, 2, service=make, ports=PORTS) as w:
        training = await w.train()
        (row,) = (await w.engine.context.store.load()).trainings
        assert (row.status, row.ended_at) == ("completed", training.ended_at)
        assert w.cluster.run is None
        members = [service for slot, service in services if slot in w.slots.names()]
        kept = {key.partition(":")[0] for service in members for key in service.regions}
        assert not kept & {"shard", "publish", "base", "weights"}


async def test_the_start_is_the_state_that_every_worker_drew(tmp_path):
    digests = []
    for name in ("one", "two"):
        async with running(tmp_path / name, 2, ports=PORTS) as w:
            training = await w.train()
            digests.append((training.advance.digest_before, training.advance.digest_after))
    assert digests[0] == digests[1]  # equal seeds, equal bytes
    assert digests[0][0] != digests[0][1]


async def test_a_round_that_failed_is_tried_again_with_those_that_are_left(tmp_path):
    faults = FaultPlan().kill("worker-1", "train").kill("worker-2", "train")
    async with running(tmp_path, 3, faults=faults, ports=PORTS) as w:
        training = await w.train(epochs=1, federated=True, min_nodes_per_round=1)
        assert training.status == "completed"
        (entry,) = await w.ledger("version")
        assert contributors(entry) == ["worker-0"]
        assert faults.met("worker-0", "train") == 2


async def test_after_so_many_attempts_the_training_fails_with_the_reason(tmp_path):
    faults = FaultPlan()
    service = lying(publishes(np.nan), "worker-0")
    async with running(tmp_path, 1, faults=faults, service=service, ports=PORTS) as w:
        training = await w.train(epochs=2)
        assert (training.status, training.percent) == ("failed", 0.0)
        assert training.error.startswith("round_failed: ")
        assert "the update of worker-0 is not finite" in training.error
        assert faults.met("worker-0", "train") == ATTEMPTS
        assert w.committed is None


async def test_a_failure_keeps_the_rounds_before_it(tmp_path):
    faults = FaultPlan().kill("worker-0", "train", nth=3)
    async with running(tmp_path, 1, faults=faults, ports=PORTS) as w:
        training = await w.train(epochs=5)
        assert training.status == "failed"
        assert training.error.startswith("no_workers: no healthy worker with a shard is left")
        assert (training.advance.rounds_done, w.committed.version) == (2, 2)
        assert len(await w.ledger("version")) == 2


async def test_a_worker_that_comes_back_by_itself_is_waited_for_and_costs_no_attempt(tmp_path):
    faults = FaultPlan()
    for nth in range(1, ATTEMPTS + 2):
        faults.lose("worker-0", "train", nth=nth)
    async with running(tmp_path, 1, faults=faults, ports=PORTS) as w:
        began_s = anyio.current_time()
        training = await w.train(epochs=1)
        assert training.status == "completed"
        assert faults.met("worker-0", "train") == ATTEMPTS + 2
        assert anyio.current_time() - began_s == pytest.approx(2.0 * (ATTEMPTS + 1), abs=0.1)


async def test_a_stop_ends_it_within_a_step_and_keeps_what_is_committed(tmp_path):
    faults = FaultPlan().slow("worker-0", "train", nth=2, delay_s=4)
    async with running(tmp_path, 1, faults=faults, ports=PORTS) as w:
        run = await begun(w, epochs=5)
        await rounds_done(w, 1)
        await anyio.sleep(1)
        began_s = anyio.current_time()
        run.stop()
        await run.ended.wait()
        assert anyio.current_time() - began_s == pytest.approx(3.0)
        training = w.cluster.state.latest_training
        assert (training.status, training.error) == ("stopped", None)
        assert (training.advance.rounds_done, w.committed.version) == (1, 1)


async def test_an_interruption_ends_the_work_and_not_the_training(tmp_path):
    faults = FaultPlan().slow("worker-0", "train", nth=2, delay_s=3600)
    async with running(tmp_path, 1, faults=faults, ports=PORTS) as w:
        run = await begun(w, epochs=5)
        await rounds_done(w, 1)
        run.interrupt()
        await run.ended.wait()
        training = w.cluster.state.latest_training
        assert (training.status, training.error, training.ended_at) == ("running", None, None)
        assert w.cluster.run is None
        (row,) = (await w.engine.context.store.load()).trainings
        assert (row.status, row.ended_at) == ("running", None)


async def test_what_nobody_foresaw_ends_this_training_under_an_incident_and_nothing_else(
    tmp_path, caplog
):
    async with running(tmp_path, 1, ports=PORTS) as w:
        run = await begun(w, epochs=5)

        async def broken_once():
            if not caplog.records:
                raise ZeroDivisionError("a bug of ours")

        run.at_next_boundary(broken_once)
        await run.ended.wait()
        training = w.cluster.state.latest_training
        assert training.status == "failed"
        assert training.error.startswith("internal_error: unexpected failure (incident ")
        assert "a bug of ours" not in training.error
        assert "ZeroDivisionError" in caplog.text


async def test_changes_wait_for_the_boundary_and_keep_their_order(tmp_path):
    seen = []
    faults = FaultPlan().slow("worker-0", "train", delay_s=5)
    async with running(tmp_path, 1, faults=faults, ports=PORTS) as w:
        run = await begun(w, epochs=3)
        await anyio.sleep(1)

        def change(name):
            async def apply():
                seen.append((name, w.cluster.state.latest_training.advance.rounds_done))

            return apply

        for name in "abc":
            run.at_next_boundary(change(name))
        await run.ended.wait()
        assert seen == [("a", 1), ("b", 1), ("c", 1)]


async def test_a_change_that_waits_when_it_is_stopped_is_still_carried_out(tmp_path):
    seen = []
    faults = FaultPlan().slow("worker-0", "train", delay_s=5)
    async with running(tmp_path, 1, faults=faults, ports=PORTS) as w:
        run = await begun(w)
        await anyio.sleep(1)

        async def apply():
            seen.append(w.cluster.run)

        run.at_next_boundary(apply)
        run.stop()
        await run.ended.wait()
        assert seen == [None]  # when no training is in the way any more
        assert len(run.boundary) == 0


@pytest.mark.usefixtures("workers_share")
async def test_a_worker_that_comes_with_the_same_layers_trains_from_the_next_round_on(tmp_path):
    faults = FaultPlan().slow("worker-0", "train", delay_s=5)
    async with running(tmp_path, 1, faults=faults, ports=PORTS) as w:
        run = await begun(w, epochs=3)
        await anyio.sleep(1)
        await w.deploy()
        await w.deploy(layers=OTHER_LAYERS)
        await run.ended.wait()
        entries = await w.ledger("version")
        assert [contributors(entry) for entry in entries] == [
            ["worker-0"],
            ["worker-0", "worker-1"],
            ["worker-0", "worker-1"],
        ]
        assert run.network_of("worker-1").key == "c0"
        assert run.network_of("worker-2") is None  # no network of this training has its layers
        rows = [len(shard) for shard in run.shards.values()]
        assert sum(rows) == w.committed.dataset.split.train


@pytest.mark.usefixtures("workers_share")
async def test_dealing_the_rows_again_counts_the_shards_that_changed(tmp_path):
    faults = FaultPlan().slow("worker-0", "train", delay_s=5)
    async with running(tmp_path, 3, faults=faults, ports=PORTS) as w:
        run = await begun(w)
        await anyio.sleep(1)
        workers = w.slots.of_role("worker")
        assert await run.reshard(workers) == 0
        assert await run.reshard(workers[:2]) == 3
        assert sorted(run.shards) == ["worker-0", "worker-1"]
        dealt = np.sort(np.concatenate(list(run.shards.values())))
        np.testing.assert_array_equal(dealt, np.arange(len(dealt)))


async def test_slots_know_what_rests_on_them(tmp_path):
    async with running(tmp_path, 2, ports=PORTS) as w:
        training = await w.train(epochs=3, federated=True, local_epochs=2)
        for slot in w.slots:
            assert slot.rounds_done == 3
            assert slot.loss is not None
        losses, rows = ([getattr(s, name) for s in w.slots] for name in ("loss", "rows"))
        expected = np.average(losses, weights=rows)
        assert training.advance.train_loss == pytest.approx(expected)


async def test_rows_of_the_last_round_are_those_that_steps_went_through(tmp_path):
    faults = FaultPlan().slow("worker-0", "train", nth=2, delay_s=60)
    async with running(tmp_path, 2, faults=faults, ports=PORTS) as w:
        run = await begun(w, epochs=2, federated=True, local_epochs=3)
        await rounds_done(w, 1)
        await anyio.wait_all_tasks_blocked()
        assert run.rows_last_round == 3 * w.committed.dataset.split.train
        run.stop()
        await run.ended.wait()


@asynccontextmanager
async def after_one_round_of_five(tmp_path):
    """A training whose second round takes five virtual seconds."""
    faults = FaultPlan().slow("worker-0", "train", nth=2, delay_s=5)
    async with running(tmp_path, 1, faults=faults, ports=PORTS) as w:
        run = await begun(w, epochs=5)
        await rounds_done(w, 1)
        yield w, run


async def waiting(w, run):
    """Return when another run waits in the place of this one."""
    while w.cluster.run is run:
        await w.cluster.changes.wait_beyond(w.cluster.changes.count)


async def test_a_full_disk_lets_the_training_wait_and_it_goes_on_when_there_is_room(tmp_path):
    async with after_one_round_of_five(tmp_path) as (w, run):
        with w.disk.failing(JOURNAL, disk_is_full()):
            await waiting(w, run)
            waits = w.cluster.run.waits
            assert "waits after round 1 of 5 until it can be stored" in waits
            # 1, 2, ... 32 s, then one minute each until it was tried 25 times.
            assert (
                "tries again within 1 s, and fails when nothing can be stored for 1203 s" in waits
            )
            assert (w.committed.version, run.training.status) == (1, "running")
            assert (await w.predict()).model_version == 1
        await run.ended.wait()
        training = w.cluster.state.latest_training
        assert (training.status, training.error) == ("completed", None)
        assert training.resumptions.after_round == 1
        assert [point.round for point in training.history] == [1, 2, 3, 4, 5]


async def test_a_disk_that_stays_full_fails_the_training_in_the_end(tmp_path):
    async with after_one_round_of_five(tmp_path) as (w, run):
        with w.disk.failing(JOURNAL, disk_is_full()):
            await run.ended.wait()
        training = w.cluster.state.latest_training
        assert training.status == "failed"
        assert training.error.startswith("store_unavailable")
        assert w.committed.version == 1
        assert (await w.predict()).model_version == 1


async def test_a_training_that_waits_for_the_disk_can_be_stopped(tmp_path):
    async with after_one_round_of_five(tmp_path) as (w, run):
        with w.disk.failing(JOURNAL, disk_is_full()):
            await waiting(w, run)
            w.cluster.run.stop()
            await run.ended.wait()
        assert w.cluster.state.latest_training.status == "stopped"
        assert w.cluster.run is None


async def test_an_end_that_cannot_be_recorded_is_told(tmp_path):
    faults = FaultPlan().slow("worker-0", "train", delay_s=5)
    async with running(tmp_path, 1, faults=faults, ports=PORTS) as w:
        run = await begun(w)
        await anyio.sleep(1)
        run.stop()
        with w.disk.failing(JOURNAL, disk_is_full()):
            await run.ended.wait()
        training = w.cluster.state.latest_training
        assert training.status == "stopped"
        assert training.error.startswith("its end is not recorded: store_unavailable")


async def test_a_training_of_which_no_worker_can_build_its_network_fails_at_the_start(tmp_path):
    async with running(tmp_path, 1, ports=PORTS) as w:
        prepared = await prepare_training(w.cluster, w.train_request(), 0)
        await w.kill("worker-0")
        run = TrainingRun(w.cluster, record(), prepared)
        w.cluster.state.add_training(run.training, new_networks=1)
        w.cluster.begin_run(run)
        await run.run()  # never raises
        assert run.training.status == "failed"
        assert run.training.error.startswith("no_workers: no worker of network c0 could build")
        assert run.ended.is_set()
