"""The whole engine over nodes in this process: the real service, planned faults, tiny networks."""

from contextlib import asynccontextmanager
from dataclasses import replace
from types import MappingProxyType

import anyio
import numpy as np

from flow_nexus_neural.coordination.rounds import RoundPatience
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import REAL_PORTS, Ports, nothing_fails
from flow_nexus_neural.engine.requests import (
    ConnectRequest,
    DeployRequest,
    InitRequest,
    PredictRequest,
    StatusRequest,
    TerminateRequest,
    TrainRequest,
)
from flow_nexus_neural.engine.versions.final import RULE as BEST_ROUND
from flow_nexus_neural.engine.versions.personal import RULE as PERSONAL
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from flow_nexus_neural.settings import Settings
from tests.doubles.fail_points import FailPoints
from tests.doubles.limits import HANG_S

LAYERS = ({"type": "dense", "units": 6, "activation": "relu"}, {"type": "dense", "units": 1})
IMPATIENT = Ports(
    patience=Patience(
        silence_s=0.8,
        ping_s=1.5,
        min_grace_s=1.5,
        first_step_s=1.5,
        rounds=RoundPatience(least_s=1.6, first_slack_s=1.6),
    )
)
"""Frozen and late nodes are noticed in seconds, so that tests need not wait as long as people.

A machine that stands still for less than two seconds must not look like a node that does.
"""


def blobs(rows=120, seed=0, features=3):
    """Two overlapping clouds, as inline data."""
    draw = np.random.Generator(np.random.PCG64(seed))
    y = np.arange(rows) % 2
    x = draw.standard_normal((rows, features)) + 1.5 * y[:, None]
    return {"X": np.round(x, 4).tolist(), "y": y.tolist()}


DATA = blobs()
AT_THE_END = frozenset({BEST_ROUND, PERSONAL})
"""Rules of versions that no round made."""
RECORD = [1.0, 1.0, 1.0]


def honest(spec):
    return NodeService(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)


def slots(entry, part):
    """Slot names in a part (contributors or excluded) of a version's ledger entry."""
    return [member["slot"] for member in entry[part]]


def reasons(entry):
    """Why slots were left out of a version, by slot, from its ledger entry."""
    return {member["slot"]: member["reason"] for member in entry["excluded"]}


def node_of(status, slot):
    """The line of a status about one slot."""
    (node,) = [node for node in status.nodes if node.slot == slot]
    return node


class World:
    """An open engine and short words for what tests do with it.

    `disk` makes durable writes fail, where the engine was opened with it. `limit_s` is how long a training
    may take.
    """

    limit_s = HANG_S

    def __init__(self, engine, runtime, faults, disk=None):
        self.engine, self.runtime, self.faults, self.disk = engine, runtime, faults, disk

    async def cluster(self, workers=3, *, layers=LAYERS, seed=1, topology="star", **more):
        report = await self.engine.init_cluster(
            InitRequest(
                **{
                    "name": "sim",
                    "topology": topology,
                    "seed": seed,
                    "daa_enabled": False,
                    # Measured times choose what computes a prediction, and with it the last bit.
                    "wasm_optimization": False,
                }
                | more
            )
        )
        for _ in range(workers):
            await self.deploy(report.cluster_id, layers=layers)
        return report.cluster_id

    async def deploy(self, cluster_id, role="worker", *, layers=LAYERS, **more):
        request = DeployRequest(cluster_id=cluster_id, role=role, layers=layers, **more)
        return await self.engine.deploy_node(request)

    async def connect(self, cluster_id, topology=None, **more):
        return await self.engine.connect(
            ConnectRequest(cluster_id=cluster_id, topology=topology, **more)
        )

    async def start(self, cluster_id, data=None, *, federated=True, epochs=3, **more):
        options = {"federated": federated, "epochs": epochs, "batch_size": 8, "learning_rate": 0.02}
        request = TrainRequest(
            cluster_id=cluster_id, dataset=DATA if data is None else data, **options | more
        )
        return await self.engine.train(request)

    async def train(self, cluster_id, data=None, **more):
        """Start a training and wait for its end."""
        await self.start(cluster_id, data, **more)
        return await self.done(cluster_id)

    async def status(self, cluster_id, **more):
        return await self.engine.status(
            StatusRequest(cluster_id=cluster_id, **{"detail": "full", **more})
        )

    async def done(self, cluster_id):
        with anyio.move_on_after(self.limit_s):
            status = await self.status(cluster_id, wait_seconds=25, until="done")
            while status.training_status == "running":
                status = await self.status(cluster_id, wait_seconds=25, until="done")
            return status
        raise TimeoutError(f"it still trains: {await self.status(cluster_id)}")

    async def until(self, cluster_id, condition):
        """Wait for a condition of the status, at every change."""
        with anyio.move_on_after(self.limit_s):
            status = await self.status(cluster_id)
            while not condition(status):
                status = await self.status(cluster_id, wait_seconds=1)
            return status
        raise TimeoutError(f"it has not come to that: {await self.status(cluster_id)}")

    async def rounds(self, cluster_id, n):
        """Wait until so many rounds are committed."""
        return await self.until(cluster_id, lambda s: s.training.current_round >= n)

    async def predict(self, cluster_id, record=RECORD, *, deadline_ms=20_000, **more):
        return await self.engine.predict(
            PredictRequest(
                cluster_id=cluster_id, input_data=record, deadline_ms=deadline_ms, **more
            )
        )

    async def terminate(self, cluster_id, **more):
        return await self.engine.terminate(TerminateRequest(cluster_id=cluster_id, **more))

    async def whole(self, cluster_id):
        """All that the engine knows of a cluster, read from disk where it has ended."""
        return await self.engine._clusters.read(cluster_id)

    async def stored(self):
        return await self.engine.context.store.load()

    async def round_versions(self, cluster_id):
        """Version entries of rounds: without those of the end of a training."""
        return [e for e in await self.versions(cluster_id) if e["rule"] not in AT_THE_END]

    async def versions(self, cluster_id):
        """Version entries of a cluster's ledger, which has been verified."""
        stored = await self.stored()
        assert stored.refused == {}
        ledger = stored.ledgers.get(cluster_id, ())
        return [entry for entry in ledger if entry["kind"] == "version"]

    def node(self, slot):
        """The living node of a slot."""
        (node,) = [n for n in self.runtime.nodes if n.spec.slot == slot and not n.gone]
        return node

    def kill(self, slot):
        self.node(slot).kill()


@asynccontextmanager
async def world(
    state_dir,
    faults=None,
    service=honest,
    *,
    ports=REAL_PORTS,
    modes=MappingProxyType({}),
    **settings,
):
    """An open engine over nodes in this process.

    Args:
        state_dir: Of the engine.
        faults: What goes wrong in nodes.
        service: Makes the service of a node.
        ports: Of the engine. `disk` takes the place of a fail point that does nothing.
        modes: More arguments of the runtime.
        settings: Of the engine.
    """
    runtime, disk = InprocRuntime(service, faults, **modes), FailPoints()
    if ports.fail_point is nothing_fails:
        ports = replace(ports, fail_point=disk)
    opened = Engine.open(
        Settings(state_dir=state_dir, **settings),
        runtime=runtime,
        ports=ports,
    )
    async with runtime, opened as engine:
        yield World(engine, runtime, faults, disk)
