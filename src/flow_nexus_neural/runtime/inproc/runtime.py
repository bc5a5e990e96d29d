"""Nodes as objects in this process, for simulation and debugging: no isolation, the same frames.

All messages pass through the codec and the responder that processes use; regions travel inside the frames.
One thing is impossible here: to end a service that neither finishes nor polls.

Two modes. By default each node works in a worker thread, so that short requests are answered while it trains.
With `inline=True` every service runs on the event loop itself: one request after the other in the order of
arrival, without threads and real time. Under an event loop with a virtual clock and a seeded order of tasks,
equal seeds give the same sequence of messages:

    async with InprocRuntime(factory, faults, inline=True, on_event=trace) as runtime:
        node = await runtime.start(spec)
"""

from functools import partial
from typing import Final

from typing_extensions import override

from flow_nexus_neural.runtime.base import Capabilities, NodeSpec
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from flow_nexus_neural.runtime.inproc.node import (
    InlineWorker,
    InprocNode,
    OnEvent,
    ServiceFactory,
    ThreadWorker,
    Worker,
)
from flow_nexus_neural.runtime.managed import ManagedRuntime, processors

_INLINE_PLACES: Final = 4
"""Fixed: with the number of processors, the sequence of messages would differ between machines."""


class InprocRuntime(ManagedRuntime[InprocNode]):
    """Starts services as nodes; use it as a context manager, as `local.runtime.LocalRuntime`.

    Args:
        service_factory: Creates the service of a node; its exceptions are failed starts.
        faults: Planned faults; None for no fault.
        inline: Run every service on the event loop, without threads.
        places: Nodes that may train at one time; by default the processors of this machine, inline 4.
        peer_views: Let the engine take the relayed views for direct ones, so that exchanges over links can be
            simulated.
        on_event: Called with (slot, direction, kind) for every message and for the end of every node.
    """

    name = "inproc"

    def __init__(
        self,
        service_factory: ServiceFactory,
        faults: FaultPlan | None = None,
        *,
        inline: bool = False,
        places: int | None = None,
        peer_views: bool = False,
        on_event: OnEvent | None = None,
    ) -> None:
        self._worker: Worker = InlineWorker() if inline else ThreadWorker()
        isolation = self._worker.isolation
        default = _INLINE_PLACES if inline else processors()
        super().__init__(
            Capabilities(
                places=places or default, isolation=isolation.level, peer_views=peer_views
            ),
            isolation,
        )
        self._factory = service_factory
        self._faults = faults or FaultPlan()
        self._on_event = on_event

    async def start(self, spec: NodeSpec, *, ready_timeout_s: float = 30.0) -> InprocNode:
        """Create the service and wait for its Ready; see `base.NodeRuntime`."""
        return await self._bring_up(partial(self._begin, spec), spec, ready_timeout_s)

    async def _begin(self, spec: NodeSpec) -> InprocNode:
        self._require_open()
        node = InprocNode(spec, self._factory, self._faults, self._worker, self._on_event)
        self._keep(node, node.run)
        return node

    @override
    async def _measure(self, node: InprocNode) -> None:
        await node.ready()
