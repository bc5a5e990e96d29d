"""Everything at once, at random, from a seed; whatever happened, what must always hold holds.

A failing seed is replayed with `pytest tests/sim/test_random_faults.py -k seed17`.
"""

from collections import Counter

import anyio
import numpy as np
import pytest

from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.sim.simulated import world

SEEDS = 16
EPOCHS = 8
WORKERS = 4
SLOTS = ("worker-0", "worker-1", "worker-2", "worker-3", "validator-0")
KINDS = ("train", "load", "infer", "predict", "build", "grant", "revoke", "get_weights")
TOPOLOGIES = ("star", "mesh", "ring", "hierarchical")


def random_plan(draw):
    plan = FaultPlan()
    for _ in range(int(draw.integers(1, 8))):
        fault = str(draw.choice(["kill", "garbage"]))
        slot, kind = str(draw.choice(SLOTS)), str(draw.choice(KINDS))
        getattr(plan, fault)(slot, kind, nth=int(draw.integers(1, 9)))
    return plan


class Chaos:
    """Clients that predict, connect, deploy and kill while a training runs; what they saw."""

    def __init__(self, w, cluster, draw):
        self.w, self.cluster, self.draw = w, cluster, draw
        self.versions, self.progress, self.refusals = [], [], Counter()

    async def attempt(self, work):
        """Do something that may be refused, by one of our errors and in time."""
        try:
            with anyio.fail_after(20):
                return await work()
        except NeuralError as refusal:
            self.refusals[refusal.code] += 1
            return None

    async def predict(self):
        answer = await self.attempt(lambda: self.w.predict(self.cluster, deadline_ms=1000))
        if answer is not None:
            assert len(set(answer.node_predictions.values())) == 1
            assert answer.nodes_used + len(answer.excluded_nodes) == answer.nodes_expected
            self.versions.append(answer.model_version)

    async def connect(self):
        topology = str(self.draw.choice(TOPOLOGIES))
        await self.attempt(lambda: self.w.connect(self.cluster, topology))

    async def replace(self):
        await self.attempt(lambda: self.w.deploy(self.cluster, layers=None))

    async def grow(self):
        await self.attempt(lambda: self.w.deploy(self.cluster))

    async def kill(self):
        alive = sorted(n.spec.slot for n in self.w.runtime._nodes if not n.gone)
        if alive:
            self.w.kill(str(self.draw.choice(alive)))

    async def look(self):
        status = await self.w.status(self.cluster)
        self.progress.append(status.training_progress)
        assert (status.training_progress == 100) == (status.training_status == "completed")

    async def run(self):
        acts = [self.predict, self.connect, self.replace, self.grow, self.kill, self.look]
        odds = [0.4, 0.1, 0.1, 0.05, 0.05, 0.3]
        while (await self.w.status(self.cluster)).training_status == "running":
            await acts[int(self.draw.choice(len(acts), p=odds))]()
            await self.look()


@pytest.mark.parametrize("seed", range(SEEDS), ids=lambda seed: f"seed{seed}")
async def test_what_must_always_hold_holds(tmp_path, seed):
    draw = np.random.Generator(np.random.PCG64(seed))
    async with world(tmp_path, random_plan(draw), max_nodes=8) as w:
        cluster = await w.cluster(0)
        chaos = Chaos(w, cluster, draw)
        for role in ("worker",) * WORKERS + ("validator",):
            await chaos.attempt(lambda role=role: w.deploy(cluster, role))
        federated = bool(draw.integers(2))
        more = {"clients_per_round": 3, "min_nodes_per_round": 1} if federated else {}
        started = await chaos.attempt(
            lambda: w.start(cluster, epochs=EPOCHS, federated=federated, **more)
        )
        if started is not None:
            await chaos.run()
        status = await w.done(cluster)
        await the_books_are_right(w, cluster, status, chaos, federated)
    async with world(tmp_path) as w:
        again = await w.status(cluster)
        assert again.model_version == status.model_version
        assert again.training_status == status.training_status
        assert again.history == status.history
        if status.model_version is not None and again.total_nodes > 1:
            await w.predict(cluster, deadline_ms=10_000)


async def the_books_are_right(w, cluster, status, chaos, federated):
    entries = await w.versions(cluster)
    numbers = [entry["model_version"] for entry in entries]
    assert numbers == list(range(1, len(numbers) + 1))
    assert status.model_version == (numbers[-1] if numbers else None)
    rounds = [entry for entry in entries if entry["rule"] != "exact_aggregation"]
    done = status.training.current_round if status.training else 0
    assert [entry["round"] for entry in rounds] == list(range(1, done + 1))
    assert len(status.history) == done
    for entry in rounds:
        counted = [member["slot"] for member in entry["contributors"]]
        left_out = [member["slot"] for member in entry["excluded"]]
        assert counted
        assert len(set(counted)) == len(counted)
        assert all(member["reason"] for member in entry["excluded"])
        if federated:
            assert not set(counted) & set(left_out)
            assert len(counted) + len(left_out) <= 3
    assert chaos.versions == sorted(chaos.versions)
    assert set(chaos.versions) <= set(numbers)
    assert chaos.progress == sorted(chaos.progress)
    status = await w.until(cluster, lambda s: s.active_nodes + s.failed_nodes == s.total_nodes)
    assert (status.training_error is None) == (status.training_status in ("completed", "none"))
    assert "internal_error" not in chaos.refusals
