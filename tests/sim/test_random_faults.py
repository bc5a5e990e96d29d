"""Everything at once, at random, in real threads; whatever happened, what must always hold holds.

A seed decides what is done and what goes wrong, the machine decides when: `test_schedules` has the schedules
that a seed decides altogether. A failing seed is tried again with `-k seed17`.
"""

import numpy as np
import pytest

from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.tables import cells
from tests.sim.chaos import Chaos, the_books_are_right
from tests.sim.simulated import world

SEEDS = range(16)
EPOCHS = 8
WORKERS = 4
CLIENTS = 3
SLOTS = ("worker-0", "worker-1", "worker-2", "worker-3", "validator-0")
KINDS = ("train", "load", "infer", "predict", "build", "grant", "revoke", "get_weights")


def random_plan(draw):
    plan = FaultPlan()
    for _ in range(int(draw.integers(1, 8))):
        fault = str(draw.choice(["kill", "garbage"]))
        slot, kind = str(draw.choice(SLOTS)), str(draw.choice(KINDS))
        getattr(plan, fault)(slot, kind, nth=int(draw.integers(1, 9)))
    return plan


@pytest.mark.parametrize("seed", cells(SEEDS, telling=SEEDS[:5]), ids=lambda seed: f"seed{seed}")
async def test_what_must_always_hold_holds(tmp_path, seed):
    draw = np.random.Generator(np.random.PCG64(seed))
    async with world(tmp_path, random_plan(draw), max_nodes=8) as w:
        cluster = await w.cluster(0)
        chaos = Chaos(w, cluster, draw)
        for role in ("worker",) * WORKERS + ("validator",):
            await chaos.attempt(lambda role=role: w.deploy(cluster, role))
        federated = bool(draw.integers(2))
        more = {"clients_per_round": CLIENTS, "min_nodes_per_round": 1} if federated else {}
        started = await chaos.attempt(
            lambda: w.start(cluster, epochs=EPOCHS, federated=federated, **more)
        )
        if started is not None:
            await chaos.run()
        await w.done(cluster)
        most = CLIENTS if federated else None
        status = await the_books_are_right(w, cluster, [chaos], most_clients=most)
    async with world(tmp_path) as w:
        again = await w.status(cluster)
        assert again.model_version == status.model_version
        assert again.training_status == status.training_status
        assert again.history == status.history
        if status.model_version is not None and again.total_nodes > 1:
            await w.predict(cluster, deadline_ms=10_000)
