"""Gossip: every worker goes on from its own state, mixes with its neighbours, and nobody averages all."""

from types import MappingProxyType

import numpy as np
import pytest

pytestmark = pytest.mark.anyio
LINKED = MappingProxyType({"peer_views": True})
from tests.sim.simulated import reasons, slots, world
TOPOLOGIES = ("mesh", "ring", "star", "hierarchical")
WORKERS = 5


async def trained(w, topology, *, workers=WORKERS, rounds=3, seed=1, **more):
    cluster = await w.cluster(workers, topology=topology, consensus="gossip", seed=seed)
    await w.connect(cluster, topology)
    status = await w.train(cluster, epochs=rounds, refit=False, **more)
    assert status.training_status == "completed", status.training_error
    return cluster, status


@pytest.mark.parametrize("topology", TOPOLOGIES)
async def test_a(tmp_path, topology):
    async with world(tmp_path, modes=LINKED) as w:
        cluster, status = await trained(w, topology)
        for e in await w.round_versions(cluster):
            print(e)
        print(status.exchange, status.communication)
