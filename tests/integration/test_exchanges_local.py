"""Exchanges over links between real, confined processes, which read each other's memory and nothing else."""

import os
import signal

import numpy as np
import pytest

from flow_nexus_neural.engine.training.roles.out_of_fold import FOLDS
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from tests.integration.test_engine_local import SMALL, local_world
from tests.sim.simulated import blobs, reasons

ROUNDS = 3
TOPOLOGIES = ("mesh", "ring", "star", "hierarchical")
MEAN = {"aggregation_method": "federated_averaging", "clients_per_round": 5}


class Watched(LocalRuntime):
    """Counts what nodes are told to read of others, and kills a node before it carries out one such order."""

    def __init__(self, settings):
        super().__init__(settings)
        self.read_bytes, self.folds = 0, 0
        self.victim: str | None = None
        self.first = 0

    async def start(self, spec, **more):
        node = await super().start(spec, **more)
        call = node.call

        async def watched(request, arrays=None):
            if request.kind == "fold":
                self.folds += 1
                # Orders of one step go out in no fixed order: the victim dies at its first from then on.
                if spec.slot == self.victim and self.folds >= self.first:
                    self.victim = None
                    os.kill(node.pid, signal.SIGKILL)
                for part in request.parts:
                    own = [s for s in part.sources if s.region.endswith(f":{spec.slot}")]
                    foreign = len(part.sources) - len(own)
                    self.read_bytes += 4 * foreign * (part.stop - part.start)
            return await call(request, arrays)

        node.call = watched
        return node


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def w(anyio_backend, tmp_path_factory):
    async with local_world(tmp_path_factory.mktemp("state"), Watched) as opened:
        yield opened


async def trained(w, topology, **more):
    cluster = await w.cluster(5, layers=SMALL, topology=topology, consensus="byzantine")
    for role in ("parameter_server", "aggregator", "aggregator"):
        await w.deploy(cluster, role, layers=None)
    await w.connect(cluster, topology)
    status = await w.train(cluster, blobs(200), epochs=ROUNDS, refit=False, **MEAN | more)
    assert status.training_status == "completed", status.error
    return cluster, status


async def test_four_topologies_give_one_result_and_the_bytes_of_their_formulas(w):
    digests, weights = {}, {}
    for topology in TOPOLOGIES:
        before = w.runtime.read_bytes
        cluster, status = await trained(w, topology)
        (exchange,) = status.exchange
        n = {"mesh": 5, "ring": 5, "star": 6, "hierarchical": 8}[topology]
        assert (exchange.path, exchange.members) == ("links", n)
        assert exchange.bytes == 2 * (n - 1) * exchange.state_bytes
        # What readers counted is what they were told to read, as somebody else counts it.
        assert status.communication.links == w.runtime.read_bytes - before
        # Below 2,000 rows three more trainings answer for the rows of the aggregators.
        assert status.communication.links == (1 + FOLDS) * ROUNDS * exchange.bytes
        digests[topology] = [e["weights_digest"] for e in await w.round_versions(cluster)]
        committed = (await w.whole(cluster)).committed
        weights[topology] = committed.networks["c0"].state.params
        await w.terminate(cluster)
    assert digests["mesh"] == digests["star"]
    for found in weights.values():
        assert np.allclose(found, weights["star"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("topology", "victim", "nth"),
    [("ring", "worker-3", 17), ("mesh", "worker-0", 11), ("star", "parameter_server-0", 7)],
)
async def test_a_sigkill_in_the_middle_of_an_exchange_does_not_lose_the_round(
    w, topology, victim, nth
):
    w.runtime.victim, w.runtime.first = victim, w.runtime.folds + nth
    cluster, _ = await trained(w, topology)
    assert w.runtime.victim is None
    rounds = await w.round_versions(cluster)
    assert [entry["round"] for entry in rounds] == [1, 2, 3]
    left_out = [entry["round"] for entry in rounds if victim in reasons(entry)]
    assert bool(left_out) == victim.startswith("worker")
    await w.terminate(cluster)


async def test_confined_nodes_sum_under_masks_what_they_would_have_averaged(w):
    """Keys, ciphers and the system's randomness are there behind the walls of a node."""
    found = []
    for secure in (False, True):
        cluster = await w.cluster(4, layers=SMALL, topology="mesh", consensus="raft")
        options = {"secure_aggregation": secure, "optimizer": "sgd", "refit": False}
        status = await w.train(cluster, blobs(200), epochs=2, clients_per_round=4, **options)
        assert status.training_status == "completed", status.training_error
        found.append((await w.whole(cluster)).committed.networks["c0"].state.params)
        await w.terminate(cluster)
    assert np.linalg.norm(found[0] - found[1]) < 1e-5 * np.linalg.norm(found[0])
    (exchange,) = status.exchange
    assert exchange.reason == "secure aggregation: the engine sums masked updates"
