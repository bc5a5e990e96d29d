"""A real node that is killed among the clients that it trains in turns: no client and no byte is lost."""

import os
import signal

import pytest

from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from tests.integration.test_engine_local import local_world
from tests.sim.simulated import node_of
from tests.sim.test_each_client import of_clients

pytestmark = pytest.mark.anyio

CLIENTS, ROUNDS = 40, 3


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


async def digests(w, killed):
    cluster = await w.cluster(3, seed=3, consensus="raft")
    await w.start(
        cluster,
        of_clients(CLIENTS),
        partition="each_client",
        epochs=ROUNDS,
        batch_size=4,
        patience=0,
        seed=5,
    )
    status = await w.rounds(cluster, 1)
    if killed is not None:
        os.kill(node_of(status, killed).pid, signal.SIGKILL)
    status = await w.done(cluster)
    assert status.training_status == "completed", status.training_error
    entries = await w.round_versions(cluster)
    assert [one["evidence"]["clients"]["trained"] for one in entries] == [CLIENTS] * ROUNDS
    return [one["weights_digest"] for one in entries]


async def test_a_node_killed_in_the_middle_of_its_clients_changes_no_byte(tmp_path):
    async with local_world(tmp_path, LocalRuntime) as w:
        whole = await digests(w, None)
        assert await digests(w, "worker-1") == whole
