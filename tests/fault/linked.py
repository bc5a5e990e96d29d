"""An engine over real but light processes, and what tests of links ask of it."""

import os
import signal
from contextlib import asynccontextmanager

import anyio

from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.patience import USUAL_PATIENCE
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.engine.requests import (
    ConnectRequest,
    DeployRequest,
    InitRequest,
    StatusRequest,
)
from flow_nexus_neural.protocol.messages import Observe
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.doubles.linear_service import LinearService
from tests.doubles.runtimes import launch_light


class Linked:
    """A cluster of workers and short words for what is done with it."""

    def __init__(self, engine, cluster_id):
        self.engine, self.cluster_id = engine, cluster_id
        self.cluster = engine.cluster(cluster_id)
        self.wiring = self.cluster.wiring

    async def deploy(self):
        return await self.engine.deploy_node(
            DeployRequest(cluster_id=self.cluster_id, role="worker")
        )

    async def connect(self, topology):
        request = ConnectRequest(cluster_id=self.cluster_id, topology=topology)
        return await self.engine.connect(request)

    async def status(self, **more):
        return await self.engine.status(StatusRequest(cluster_id=self.cluster_id, **more))

    async def until(self, condition):
        with anyio.fail_after(HANG_S):
            status = await self.status()
            while not condition(status):
                status = await self.status(wait_seconds=1)
        return status

    def slot(self, name):
        return self.cluster.slots[name]

    def signal(self, name, number=signal.SIGKILL):
        os.kill(self.slot(name).handle.pid, number)

    async def kill(self, name):
        """End a node from outside; returns when the status knows."""
        self.signal(name)
        return await self.until(lambda s: state_of(s, name) == "failed")

    def key(self, name):
        """Under which a slot publishes now."""
        return self.wiring.key(name)

    async def sights(self, reader, *keys):
        """What a node reads under keys, asked past the engine."""
        reply, _ = await self.slot(reader).handle.call(Observe(keys=keys, reads=1))
        return [sight and sight.token for sight in reply.sights]


def state_of(status, name):
    return next(node.status for node in status.nodes if node.slot == name)


def connections(status):
    return [node.connections for node in status.nodes]


@asynccontextmanager
async def linked(
    state_dir, workers, *, service=None, faults=None, patience=USUAL_PATIENCE, **settings
):
    """Workers in light processes; in this process when a service is given."""
    settings = Settings(state_dir=state_dir, **settings)
    if service is None and faults is None:
        runtime = LocalRuntime(settings, launch=launch_light)
    else:
        make = service or (lambda spec: LinearService())
        runtime = InprocRuntime(make, faults)
    ports = Ports(patience=patience)
    async with runtime, Engine.open(settings, runtime=runtime, ports=ports) as engine:
        report = await engine.init_cluster(InitRequest(name="linked", daa_enabled=False))
        cluster = Linked(engine, report.cluster_id)
        for _ in range(workers):
            await cluster.deploy()
        yield cluster
