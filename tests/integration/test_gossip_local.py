"""Gossip between real, confined processes: it learns, costs what its formula says, and survives a SIGKILL."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.integration.test_engine_local import SMALL, local_world
from tests.integration.test_exchanges_local import Watched
from tests.sim.simulated import blobs, reasons

EDGES = {"mesh": 10, "ring": 5, "star": 4, "hierarchical": 4}
DENSE = ({"type": "dense", "units": 32, "activation": "relu"}, {"type": "dense", "units": 10})


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def w(anyio_backend, tmp_path_factory):
    async with local_world(tmp_path_factory.mktemp("state"), Watched) as opened:
        yield opened


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return {"X": x.tolist(), "y": y.tolist()}


async def trained(w, topology, data, *, layers=SMALL, consensus="gossip", **more):
    cluster = await w.cluster(5, layers=layers, topology=topology, consensus=consensus)
    await w.connect(cluster, topology)
    status = await w.train(cluster, data, refit=False, **more)
    assert status.training_status == "completed", status.training_error
    return cluster, status


async def barriers(w, cluster):
    entries = await w.round_versions(cluster)
    return [entry["evidence"]["gossip"] for entry in entries if "evidence" in entry]


@pytest.mark.parametrize("topology", EDGES)
async def test_the_bytes_of_mixing_are_those_of_the_formula(w, topology):
    before = w.runtime.read_bytes
    cluster, status = await trained(w, topology, blobs(200), epochs=3)
    (exchange,) = status.exchange
    seen = await barriers(w, cluster)
    steps = sum(one["mixing_steps"] for one in seen)
    assert len(seen) == 3
    # What readers counted is what they were told to read, as somebody else counts it.
    assert status.communication.links == w.runtime.read_bytes - before
    assert status.communication.links == 2 * EDGES[topology] * exchange.state_bytes * steps
    assert status.guarantees.holds is True
    await w.terminate(cluster)


async def test_workers_that_mix_learn_as_much_as_those_that_are_averaged(w, digits):
    options = {"epochs": 30, "batch_size": 32, "learning_rate": 0.003, "partition": "iid"}
    found = {}
    for consensus in ("gossip", "byzantine"):
        mean = {"aggregation_method": "federated_averaging", "clients_per_round": 5}
        more = mean if consensus == "byzantine" else {}
        cluster, status = await trained(
            w, "ring", digits, layers=DENSE, consensus=consensus, **options, **more
        )
        found[consensus] = status.global_accuracy
        if consensus == "gossip":
            report = status.consensus_report["gossip"]
            gap = 2 / 3 * (1 - np.cos(2 * np.pi / 5))
            assert report["spectral_gap"] == pytest.approx(gap)
            assert 0 < report["consensus_distance"] < 0.2
        await w.terminate(cluster)
    assert found["byzantine"] > 0.9
    assert abs(found["gossip"] - found["byzantine"]) <= 0.01 + 1e-9


async def test_a_sigkill_while_mixing_costs_the_dead_its_round_and_nobody_else(w):
    victim = "worker-2"
    w.runtime.victim, w.runtime.first = victim, w.runtime.folds + 6  # in the second round
    cluster, _ = await trained(w, "ring", blobs(200), epochs=4, learning_rate=0.002)
    assert w.runtime.victim is None
    rounds = [entry for entry in await w.round_versions(cluster) if "round" in entry]
    assert [entry["round"] for entry in rounds] == [1, 2, 3, 4]
    assert [entry["round"] for entry in rounds if victim in reasons(entry)] == [2]
    members = [one["members"] for one in await barriers(w, cluster)]
    assert members[:2] == [5, 4]
    await w.terminate(cluster)
