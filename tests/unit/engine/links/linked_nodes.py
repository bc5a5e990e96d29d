"""Nodes of an inline runtime with what the links need of an engine, in virtual time."""

from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import anyio

from flow_nexus_neural.coordination.topology import Vertex, plan
from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.patience import Deadline, Patience
from flow_nexus_neural.engine.state.metrics import Metrics
from flow_nexus_neural.engine.state.slots import SlotBook
from flow_nexus_neural.protocol.messages import Observe
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from tests.doubles.linear_service import LinearService
from tests.doubles.runtimes import spec
from tests.unit.engine.building import slot

FIRST_TOKEN = 100


class Nodes:
    """Slots whose processes live, and the context and calls that links are made of."""

    def __init__(self, runtime, patience):
        tokens = count(FIRST_TOKEN)
        self.runtime = runtime
        self.slots = SlotBook()
        self.context = SimpleNamespace(
            runtime=runtime,
            clock=anyio.current_time,
            patience=patience,
            ports=SimpleNamespace(random_bits=lambda bits: next(tokens)),
        )
        self.metrics = Metrics(anyio.current_time)
        self.calls = NodeCalls(self.metrics, anyio.current_time, "sync", patience)

    async def start(self, number):
        of = slot(f"worker-{number}", state="healthy")
        self.slots.add(of)
        await self.restart(of)
        return of

    async def restart(self, of):
        """A new incarnation of a slot."""
        node = await self.runtime.start(spec(of.name, of.incarnation))
        of.begin_incarnation(node.spec.node_id)
        of.attach(node, 0.0)

    def graph(self, topology):
        return plan(topology, [Vertex(of.name, "worker") for of in self.slots.healthy()])

    def share_views(self):
        """From now on this runtime claims that nodes read their neighbours directly."""
        self.runtime.capabilities = replace(self.runtime.capabilities, peer_views=True)

    async def sights(self, of, *keys):
        """Tokens that a node reads under keys, asked past the engine."""
        reply, _ = await of.handle.call(Observe(keys=keys, reads=1))
        return [sight and sight.token for sight in reply.sights]


@asynccontextmanager
async def nodes(n=3, *, faults=None, service=lambda of: LinearService(), link_s=5.0):
    patience = Patience(link=Deadline(link_s, None))
    async with InprocRuntime(service, faults, inline=True) as runtime:
        made = Nodes(runtime, patience)
        for number in range(n):
            await made.start(number)
        yield made
