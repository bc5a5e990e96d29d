"""Node groups through the engine: equal weights, honest reports, and faults that end a process of several."""

import os
import signal

import anyio
import pytest

from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from tests.doubles.limits import HANG_S
from tests.integration.test_engine_local import local_world
from tests.sim.simulated import blobs, world

pytestmark = pytest.mark.anyio
LAYERS = (
    {"type": "dense", "units": 8, "activation": "relu"},
    {"type": "dense", "units": 1, "activation": "linear"},
)
ROUNDS = {"epochs": 4, "batch_size": 8, "patience": 0}


def numbers():
    """Regression: its loss and its derivative round alike in a stack and alone."""
    data = blobs(rows=100, seed=3)
    return {"X": data["X"], "y": [2.0 * row[0] - row[1] for row in data["X"]]}


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


async def trained(w):
    cluster = await w.cluster(4, layers=LAYERS, seed=3, consensus="raft")
    status = await w.train(cluster, numbers(), **ROUNDS)
    assert status.training_status == "completed", status.training_error
    return cluster, status


def losses(status):
    return status.training.train_loss, status.training.val_loss


@pytest.fixture(scope="module")
async def grouped(anyio_backend, tmp_path_factory):
    place = tmp_path_factory.mktemp("groups")
    async with local_world(place, LocalRuntime, node_groups="2") as opened:
        yield opened


async def test_groups_learn_what_single_nodes_learn_and_survive_the_loss_of_one(tmp_path, grouped):
    async with world(tmp_path) as w:
        _, alone = await trained(w)
    assert alone.processes is None
    w = grouped
    cluster, status = await trained(w)
    assert losses(status) == pytest.approx(losses(alone), abs=1e-6)
    assert sorted(one.slots for one in status.processes) == [
        ["worker-0", "worker-2"],
        ["worker-1", "worker-3"],
    ]
    assert [one.stacked for one in status.processes] == [2, 2]
    assert all(one.cpu_s > 0 for one in status.processes)
    assert (alone.guarantees.f_tolerated, status.guarantees.f_tolerated) == (1, 0)
    assert {node.pid for node in status.nodes} == {one.pid for one in status.processes}

    # A member that is removed leaves the other one of its process.
    kept = status.nodes[3].pid
    await w.terminate(cluster, node_id=status.nodes[1].node_id)
    status = await w.status(cluster)
    left = {node.slot: node for node in status.nodes}
    assert left["worker-3"].pid == kept
    assert left["worker-3"].healthy

    # The end of a process is the end of both of its nodes, and is said of both.
    os.kill(left["worker-0"].pid, signal.SIGKILL)
    with anyio.fail_after(HANG_S):
        status = await w.until(cluster, lambda one: one.failed_nodes == 2)
    told = {node.slot: node.last_error for node in status.nodes if not node.healthy}
    assert told.keys() == {"worker-0", "worker-2"}
    assert all("killed by SIGKILL" in why for why in told.values())


async def test_where_one_process_is_one_liar_each_worker_has_its_own(grouped):
    for consensus, n_processes in (("raft", 2), ("byzantine", 3)):
        cluster = await grouped.cluster(3, layers=LAYERS, consensus=consensus)
        status = await grouped.status(cluster)
        assert (status.processes is None) == (consensus == "byzantine")
        assert len({node.pid for node in status.nodes}) == n_processes
