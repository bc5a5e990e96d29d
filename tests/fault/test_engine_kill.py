"""Real nodes killed and stopped under the engine, in training and in prediction; full disks; nothing left."""

import errno
import gc
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from flow_nexus_neural.coordination.rounds import RoundPatience
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.patience import USUAL_PATIENCE, Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.errors import NoServingNode, StoreUnavailable
from flow_nexus_neural.settings import Settings
from tests.doubles.fail_points import FILES, JOURNAL, FailPoints, disk_is_full
from tests.doubles.limits import HANG_S
from tests.doubles.runtimes import descriptors, gone, until
from tests.sim.simulated import World, blobs, slots

DATA = blobs(300)
LONG = 400
DEADLINE_MS = 20_000
SMALL = (
    {"type": "dense", "units": 16, "activation": "relu"},
    {"type": "dense", "units": 1, "activation": "sigmoid"},
)


IMPATIENT = Patience(
    silence_s=0.5,
    ping_s=2.0,
    min_grace_s=2.0,
    first_step_s=2.0,
    rounds=RoundPatience(least_s=3.0, first_slack_s=1.5),
)


CALM = replace(USUAL_PATIENCE, rounds=RoundPatience(least_s=HANG_S))
"""Who is slow is waited for: only who is killed is missing, however busy the machine is."""


@asynccontextmanager
async def opened(state_dir, patience=CALM):
    disk = FailPoints()
    ports = Ports(fail_point=disk, patience=patience)
    async with Engine.open(Settings(state_dir=state_dir), ports=ports) as engine:
        yield World(engine, engine.context.runtime, None, disk)


@pytest.fixture(scope="module")
async def w(anyio_backend, tmp_path_factory):
    async with opened(tmp_path_factory.mktemp("state")) as world:
        yield world


@pytest.fixture(scope="module")
async def hasty(anyio_backend, tmp_path_factory):
    """A world in which frozen and late nodes are noticed in some seconds."""
    async with opened(tmp_path_factory.mktemp("hasty"), IMPATIENT) as world:
        yield world


@pytest.fixture
async def cluster(w):
    made = await w.cluster(3, layers=SMALL)
    yield made
    await w.terminate(made)


@pytest.fixture
async def autonomous(w):
    made = await w.cluster(3, layers=SMALL, daa_enabled=True)
    yield made
    await w.terminate(made)


@pytest.fixture
async def hasty_cluster(hasty):
    made = await hasty.cluster(3, layers=SMALL)
    yield made
    await hasty.terminate(made)


async def pid_of(w, cluster, slot):
    return next(node.pid for node in (await w.status(cluster)).nodes if node.slot == slot)


async def node_of(w, cluster, slot):
    return next(node for node in (await w.status(cluster)).nodes if node.slot == slot)


async def test_a_worker_killed_in_training_is_missed_named_and_replaceable(w, cluster):
    await w.start(cluster, DATA, epochs=25, min_nodes_per_round=1)
    await w.rounds(cluster, 3)
    pid = await pid_of(w, cluster, "worker-1")
    os.kill(pid, signal.SIGKILL)
    status = await w.done(cluster)
    assert status.training_status == "completed", status.training_error
    assert gone(pid)
    node = await node_of(w, cluster, "worker-1")
    assert (node.status, node.healthy) == ("failed", False)
    assert "SIGKILL" in node.last_error
    assert (status.status, status.active_nodes, status.failed_nodes) == ("degraded", 2, 1)
    last = (await w.round_versions(cluster))[-1]
    assert [member["slot"] for member in last["contributors"]] == ["worker-0", "worker-2"]
    report = await w.deploy(cluster, layers=None)
    assert (report.slot, report.incarnation, report.replaces) == ("worker-1", 2, node.node_id)
    assert report.synced_version == status.model_version
    answer = await w.predict(cluster)
    assert (answer.nodes_used, answer.degraded) == (3, False)
    assert len(set(answer.node_predictions.values())) == 1


async def test_a_killed_worker_comes_back_by_itself_and_trains_again(w, autonomous):
    cluster = autonomous
    await w.start(cluster, DATA, epochs=LONG, min_nodes_per_round=1, learning_rate=1e-4)
    await w.rounds(cluster, 3)
    os.kill(await pid_of(w, cluster, "worker-1"), signal.SIGKILL)
    status = await w.until(cluster, lambda s: s.daa.executed)
    intended, event = [e for e in status.daa.events if e["target"] == "worker-1"]
    assert intended["decision"] == "intended"
    assert (event["rule"], event["target"], event["ok"]) == ("restart_node", "worker-1", True), (
        event
    )
    node = await node_of(w, cluster, "worker-1")
    assert (node.healthy, node.incarnation) == (True, 2)
    rounds_done = node.rounds_done
    with anyio.fail_after(HANG_S):
        while (await node_of(w, cluster, "worker-1")).rounds_done <= rounds_done:
            await w.status(cluster, wait_seconds=1)


async def test_a_burst_of_predictions_survives_the_death_of_a_worker(w, cluster):
    await w.train(cluster, DATA)
    expected = (await w.predict(cluster)).prediction
    pid = await pid_of(w, cluster, "worker-2")
    answers = []

    async def ask():
        for _ in range(25):
            answers.append(await w.predict(cluster, deadline_ms=DEADLINE_MS))  # noqa: PERF401  counted while they come

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(ask)
        await until(lambda: len(answers) > 20)
        os.kill(pid, signal.SIGKILL)
    assert len(answers) == 100
    assert {answer.prediction for answer in answers} == {expected}
    assert {answer.nodes_used for answer in answers} == {3, 2}
    assert all(answer.latency_ms < DEADLINE_MS for answer in answers)
    status = await w.status(cluster)
    assert (status.active_nodes, status.failed_nodes) == (2, 1)


async def test_when_all_workers_are_killed_calls_end_and_the_cluster_can_be_mended(w, cluster):
    status = await w.train(cluster, DATA)
    before = await w.predict(cluster)
    for node in status.nodes:
        os.kill(node.pid, signal.SIGKILL)
    status = await w.until(cluster, lambda s: s.failed_nodes == 3)
    with pytest.raises(NoServingNode, match="of 3 serving nodes answered"):
        await w.predict(cluster)
    for _ in range(3):
        await w.deploy(cluster, layers=None)
    assert (await w.status(cluster)).total_nodes == 3
    after = await w.predict(cluster)
    assert (after.nodes_used, after.prediction) == (3, before.prediction)


async def test_a_stopped_worker_is_answered_without_then_suspected_then_ended(hasty, hasty_cluster):
    w, cluster = hasty, hasty_cluster
    await w.train(cluster, DATA)
    pid = await pid_of(w, cluster, "worker-0")
    os.kill(pid, signal.SIGSTOP)
    with anyio.fail_after(HANG_S):
        answer = await w.predict(cluster, deadline_ms=3000)
    assert (answer.nodes_used, answer.nodes_expected, answer.degraded) == (2, 3, True)
    (excluded,) = answer.excluded_nodes
    assert excluded.reason == "no answer before the deadline"
    await until(lambda: gone(pid))
    status = await w.until(cluster, lambda s: s.failed_nodes == 1)
    assert "frozen" in (await node_of(w, cluster, "worker-0")).last_error
    assert status.active_nodes == 2


async def test_a_worker_stopped_in_training_does_not_stop_the_training(hasty, hasty_cluster):
    w, cluster = hasty, hasty_cluster
    await w.start(cluster, DATA, epochs=12, min_nodes_per_round=1)
    await w.rounds(cluster, 2)
    pid = await pid_of(w, cluster, "worker-1")
    os.kill(pid, signal.SIGSTOP)
    status = await w.done(cluster)
    assert status.training_status == "completed", status.training_error
    await until(lambda: gone(pid))
    entries = await w.round_versions(cluster)
    assert len(entries) == 12
    assert "worker-1" not in slots(entries[-1], "contributors")


async def test_a_cluster_with_a_stopped_worker_ends_at_once(hasty, hasty_cluster):
    w, cluster = hasty, hasty_cluster
    await w.start(cluster, DATA, epochs=LONG)
    await w.rounds(cluster, 1)
    pids = [node.pid for node in (await w.status(cluster)).nodes]
    os.kill(pids[1], signal.SIGSTOP)
    with anyio.fail_after(HANG_S):
        report = await w.terminate(cluster)
    assert not report.already_terminated
    assert all(gone(pid) for pid in pids)
    assert (await w.status(cluster)).training_status == "stopped"


async def test_nodes_come_back_by_themselves_when_the_process_that_forks_them_dies(w, cluster):
    await w.train(cluster, DATA)
    before = await w.predict(cluster)
    old = {node.node_id for node in (await w.status(cluster)).nodes}
    os.kill(w.runtime.zygote_info().pid, signal.SIGKILL)
    await w.until(cluster, lambda s: s.active_nodes < 3)
    status = await w.until(cluster, lambda s: s.active_nodes == 3)
    assert not old & {node.node_id for node in status.nodes}
    assert [node.incarnation for node in status.nodes] == [2, 2, 2]
    after = await w.predict(cluster)
    assert (after.prediction, after.nodes_used) == (before.prediction, 3)


async def test_a_training_outlives_the_process_that_forks_its_nodes(w, cluster):
    await w.start(cluster, DATA, epochs=40)
    await w.rounds(cluster, 5)
    os.kill(w.runtime.zygote_info().pid, signal.SIGKILL)
    status = await w.done(cluster)
    assert status.training_status == "completed", status.training_error
    assert status.training.current_round == 40 == len(await w.round_versions(cluster))
    assert [node.incarnation for node in status.nodes] == [2, 2, 2]


async def test_a_full_disk_lets_a_training_wait_and_predictions_go_on(w, cluster):
    await w.train(cluster, DATA)
    before = await w.predict(cluster)
    rounds_before = len(await w.round_versions(cluster))

    full = OSError(errno.ENOSPC, "No space left on device")
    with w.disk.failing(FILES, full, after=1):  # the prepared rows are written first
        await w.start(cluster, DATA)
        status = await w.until(cluster, lambda s: "No space left" in (s.training.lacks or ""))
        assert (status.training_status, status.training_error) == ("running", None)
        after = await w.predict(cluster)
        assert (after.prediction, after.bundle_sha) == (before.prediction, before.bundle_sha)
    status = await w.done(cluster)
    assert status.training_status == "completed"
    assert len(await w.round_versions(cluster)) == rounds_before + 3


async def test_a_training_that_cannot_be_recorded_does_not_run(w, cluster):
    await w.train(cluster, DATA)
    version = (await w.predict(cluster)).model_version
    with w.disk.failing(JOURNAL, disk_is_full()), pytest.raises(StoreUnavailable):
        await w.start(cluster, DATA)
    status = await w.status(cluster)
    assert (status.training_status, len(status.training_sessions)) == ("completed", 1)
    assert (await w.predict(cluster)).model_version == version
    assert (await w.train(cluster, DATA)).training_status == "completed"


async def test_a_node_that_dies_when_nothing_can_be_recorded_harms_nobody(w, cluster):
    await w.train(cluster, DATA)
    with w.disk.failing(JOURNAL, disk_is_full()):
        os.kill(await pid_of(w, cluster, "worker-0"), signal.SIGKILL)
        await w.until(cluster, lambda s: s.failed_nodes == 1)
        assert (await w.predict(cluster)).nodes_used == 2
        with pytest.raises(StoreUnavailable):
            await w.deploy(cluster, layers=None)
        assert len([node for node in w.runtime.nodes if not node.gone]) == 2
    await w.deploy(cluster, layers=None)
    assert (await w.predict(cluster)).nodes_used == 3


async def test_an_engine_leaves_no_process_and_no_descriptor(tmp_path):
    gc.collect()
    before = descriptors()
    async with opened(tmp_path) as w:
        cluster = await w.cluster(3, layers=SMALL)
        await w.train(cluster, DATA)
        pids = [node.pid for node in (await w.status(cluster)).nodes]
        os.kill(pids[0], signal.SIGKILL)
        await w.start(cluster, DATA, epochs=LONG)
        await w.rounds(cluster, 1)
        pids.append(w.runtime.zygote_info().pid)
    assert all(gone(pid) for pid in pids)
    gc.collect()
    assert set(descriptors()) - set(before) == set()
