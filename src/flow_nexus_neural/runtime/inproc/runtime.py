"""Nodes as objects in this process, for simulation and debugging: no isolation, the same frames.

Everything a node says and hears is encoded and decoded by the codec of the real wire, and answered by the
same responder; regions travel inside the frames. What this cannot do: end a service that neither finishes nor
polls.

Two modes. By default each node works in a worker thread, so that quick requests are answered while it trains.
With `inline=True` every service runs on the event loop itself: one request after the other in the order of
arrival, no thread, no real time. Under an event loop with a virtual clock and a seeded order of tasks, the
same seed then gives the same course, message for message:

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
"""A number of its own: that of the machine's processors would make the course differ between machines."""


class InprocRuntime(ManagedRuntime[InprocNode]):
    """Starts services as nodes; use it as a context manager, as `local.runtime.LocalRuntime`.

    Args:
        service_factory: Makes the service of a node; what it raises is a failed start.
        faults: What goes wrong; nothing without it.
        inline: Run every service on the event loop, without threads.
        places: Nodes that may train at one time; by default the processors of this machine, inline 4.
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
        on_event: OnEvent | None = None,
    ) -> None:
        self._worker: Worker = InlineWorker() if inline else ThreadWorker()
        isolation = self._worker.isolation
        default = _INLINE_PLACES if inline else processors()
        super().__init__(
            Capabilities(places=places or default, isolation=isolation.level), isolation
        )
        self._factory = service_factory
        self._faults = faults or FaultPlan()
        self._on_event = on_event

    async def start(self, spec: NodeSpec, *, ready_timeout_s: float = 30.0) -> InprocNode:
        """Make the service and hear it say ready; see `base.NodeRuntime`."""
        return await self._bring_up(partial(self._begin, spec), spec, ready_timeout_s)

    async def _begin(self, spec: NodeSpec) -> InprocNode:
        self._require_open()
        node = InprocNode(spec, self._factory, self._faults, self._worker, self._on_event)
        self._keep(node, node.run)
        return node

    @override
    async def _measure(self, node: InprocNode) -> None:
        await node.ready()
