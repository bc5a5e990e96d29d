"""Tries a link: whether one end reads what the other was told to announce, and how long that takes.

A node's own word for a time is believed only as far as it can be true.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import NodeError
from flow_nexus_neural.protocol.messages import Observe, Ping, Sight

READS = 5
"""Reads of which a latency is the median."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What a reader should find: the token that a neighbour was told to announce, and where."""

    slot: str
    key: str
    token: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Trial:
    """How one direction of an edge did when it was tried."""

    latency_ms: float | None
    fault: str | None


class LinkProbe:
    """Tries links of one cluster.

    Args:
        context: The engine's means.
        calls: Asks the cluster's nodes.
    """

    def __init__(self, context: EngineContext, calls: NodeCalls) -> None:
        self._context = context
        self._calls = calls

    async def read(self, slot: Slot, announced: Sequence[Announced]) -> list[Trial]:
        """Let a node read its neighbours' buffers; one trial for each, in the given order."""
        if self._context.runtime.capabilities.peer_views:
            return await self._observe(slot, announced)
        trials: list[Trial] = []
        for one in announced:  # one by one, since each takes its own way through the engine
            trials += await self._observe(slot, [one], relayed=True)
        return trials

    async def ping(self, slot: Slot) -> Trial:
        """Try the edge to the engine, which is the socket that every request goes through."""
        round_trips_ms: list[float] = []
        try:
            for _ in range(READS):
                began_s = self._context.clock()
                await self._calls.ask(slot, Ping(), self._context.patience.link)
                round_trips_ms.append((self._context.clock() - began_s) * 1e3)
        except NodeError as failure:
            return Trial(None, str(failure))
        return Trial(median(round_trips_ms), None)

    async def _observe(
        self, slot: Slot, announced: Sequence[Announced], *, relayed: bool = False
    ) -> list[Trial]:
        """Compare what a node reads of its neighbours with what those were told to announce."""
        if not announced:
            return []
        began_s = self._context.clock()
        sights: tuple[Sight | None, ...]
        try:
            request = Observe(keys=tuple(one.key for one in announced), reads=READS)
            reply, _ = await self._calls.ask(slot, request, self._context.patience.link)
            sights, failed = reply.sights, None
        except NodeError as failure:
            sights, failed = (None,) * len(announced), str(failure)
        elapsed_ms = (self._context.clock() - began_s) * 1e3
        trials = []
        for one, sight in zip(announced, sights, strict=True):
            if not relayed and sight is not None:
                self._calls.pulled(READS * one.nbytes)
            # Relayed, what it read lay in its own memory already: the way there is what takes the time.
            latency_ms = elapsed_ms if relayed else _plausible(sight, elapsed_ms)
            trials.append(Trial(latency_ms, failed or _fault(slot.name, one, sight)))
        return trials


def _fault(reader: str, announced: Announced, sight: Sight | None) -> str | None:
    if sight is None:
        return f"{reader} does not hold its view of {announced.slot}"
    if sight.token != announced.token:
        return f"{reader} does not read what {announced.slot} was told to announce"
    return None


def _plausible(sight: Sight | None, elapsed_ms: float) -> float | None:
    """A node's word for a time, as far as it can be true."""
    return sight.read_ms if sight is not None and sight.read_ms <= elapsed_ms else None
