"""A running engine for unit tests: linear nodes in this process, and a clock that jumps over waiting."""

from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
from trio.testing import MockClock

from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.ports import REAL_PORTS, inline
from flow_nexus_neural.engine.requests import (
    ConnectRequest,
    DeployRequest,
    InitRequest,
    PredictRequest,
    StatusRequest,
    TrainRequest,
)
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from flow_nexus_neural.settings import Settings
from tests.doubles.fail_points import FailPoints
from tests.doubles.linear_service import LinearService

LAYERS = ({"type": "dense", "units": 1},)
OTHER_LAYERS = ({"type": "dropout", "rate": 0.1}, *LAYERS)
"""Another network, which the linear service can compute too."""
ROWS = 64


def virtual_time():
    """An event loop whose clock stands still while anything can run, and else jumps to the next deadline."""
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


def rows(n=ROWS):
    """Rows of three features whose target is linear in them, as inline data."""
    table = [[(7 * i % 11) / 11, (5 * i % 13) / 13, (3 * i % 17) / 17] for i in range(n)]
    return {"X": table, "y": [a - 2 * b + c / 2 for a, b, c in table]}


class Running:
    """One open engine with one cluster, and short words for what tests do with it.

    Attributes:
        cluster: The live cluster itself, for the functions under test.
    """

    def __init__(self, engine, runtime, faults, disk):
        self.engine, self.runtime, self.faults, self.disk = engine, runtime, faults, disk
        self.cluster = None

    async def begin(self, workers, **init):
        report = await self.engine.init_cluster(
            InitRequest(**{"name": "unit", "seed": 1, "daa_enabled": False} | init)
        )
        self.cluster = self.engine.cluster(report.cluster_id)
        for _ in range(workers):
            await self.deploy()

    @property
    def cluster_id(self):
        return self.cluster.cluster_id

    @property
    def slots(self):
        return self.cluster.slots

    @property
    def committed(self):
        return self.cluster.committed

    async def deploy(self, role="worker", **more):
        return await self.engine.deploy_node(self.deploy_request(role, **more))

    def deploy_request(self, role="worker", **more):
        given = {"layers": LAYERS} | more
        return DeployRequest(cluster_id=self.cluster_id, role=role, **given)

    def train_request(self, **more):
        options = {"dataset": rows(), "epochs": 2, "batch_size": 8, "learning_rate": 0.05}
        options |= {"optimizer": "sgd"}
        return TrainRequest(cluster_id=self.cluster_id, **options | more)

    async def train(self, **more):
        """Start a training and wait for its end; the finished record."""
        report = await self.engine.train(self.train_request(**more))
        await self.ended()
        return self.cluster.state.training(report.training_id)

    async def ended(self):
        run = self.cluster.run
        if run is not None:
            await run.ended.wait()

    async def connect(self, topology=None, **more):
        return await self.engine.connect(
            ConnectRequest(cluster_id=self.cluster_id, topology=topology, **more)
        )

    async def predict(self, record=(0.5, 0.5, 0.5), **more):
        return await self.engine.predict(
            PredictRequest(cluster_id=self.cluster_id, input_data=list(record), **more)
        )

    async def status(self, **more):
        return await self.engine.status(StatusRequest(cluster_id=self.cluster_id, **more))

    async def ledger(self, kind=None):
        """Verified entries of the cluster's ledger."""
        stored = await self.engine.context.store.load()
        assert stored.refused == {}
        entries = stored.ledgers.get(self.cluster_id, ())
        return [entry for entry in entries if kind in (None, entry["kind"])]

    def node(self, slot):
        """The living node of a slot."""
        (node,) = [n for n in self.runtime.nodes if n.spec.slot == slot and not n.gone]
        return node

    async def kill(self, slot, cause="killed: from outside"):
        """End a node from outside and wait until the cluster knows; cause is `reason: sentence`."""
        node = self.node(slot)
        node.kill(cause)
        await node.wait_exit()
        await anyio.wait_all_tasks_blocked()


def linear_runtime(faults=None, services=None):
    """Nodes without an engine; `services` collects the services in the order of their starts."""

    def make(spec):
        service = LinearService()
        if services is not None:
            services.append(service)
        return service

    return InprocRuntime(make, faults, inline=True)


@asynccontextmanager
async def running(
    state_dir,
    workers=2,
    *,
    faults=None,
    service=None,
    ports=REAL_PORTS,
    places=None,
    peer_views=False,
    init=None,
    cluster_id=None,
    **settings,
):
    """An engine with a cluster of linear workers.

    Args:
        state_dir: Of the engine.
        workers: How many are deployed at once.
        faults: What goes wrong in nodes.
        service: Makes the service of a node from its spec; the honest linear one by default.
        ports: Of the engine; work is offloaded to the event loop, and `disk` is its fail point.
        places: Nodes that may train at one time.
        peer_views: Whether exchanges go over links, between which the engine relays.
        init: More of the request for the cluster.
        cluster_id: A stored cluster, instead of a new one.
        settings: Of the engine.
    """
    made = (lambda spec: LinearService()) if service is None else service
    modes = {"inline": True, "places": places, "peer_views": peer_views}
    runtime, disk = InprocRuntime(made, faults, **modes), FailPoints()
    ports = replace(ports, offload=inline, offload_data=inline, fail_point=disk)
    opened = Engine.open(Settings(state_dir=state_dir, **settings), runtime=runtime, ports=ports)
    async with runtime, opened as engine:
        world = Running(engine, runtime, faults, disk)
        if cluster_id is None:
            await world.begin(workers, **(init or {}))
        else:
            world.cluster = engine.cluster(cluster_id)
        yield world
