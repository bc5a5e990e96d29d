"""The links between nodes: who may read whose buffer, and whether that works.

A link is a capability that only the engine hands out. Every linked node writes into a link buffer of its own;
each end of an edge is granted a view of the other's, and every edge is tried in both directions before it
counts: the engine draws a token, one end announces it, the other must read it.

A mapping cannot be taken back from a process. So a node that loses an edge and lives on loses it because its
former neighbours get new buffers: what it may still have mapped never changes again. A process that has ended
took its mappings with it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import anyio

from flow_nexus_neural.coordination.topology import ENGINE, Edge, Graph
from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.state.slots import Slot, SlotBook
from flow_nexus_neural.errors import NodeError
from flow_nexus_neural.protocol.messages import (
    LINK_LAYOUT,
    Announce,
    Observe,
    Ping,
    Sight,
)
from flow_nexus_neural.runtime.base import Buffer

READS = 5
"""Reads of which a latency is the median."""
MAX_OPEN_VIEWS = 128
"""A view is a descriptor of the server until the node has it; a mesh of 32 nodes has 992."""
_KEYS_PER_REVOKE = 256


@dataclass(frozen=True, slots=True)
class _Publisher:
    """The link buffer of a slot's process, and the token that it was told to announce in it."""

    node_id: str
    buffer: Buffer
    token: int


@dataclass(slots=True)
class _Holdings:
    """Keys that a slot's process was granted and has not been told to forget."""

    node_id: str
    keys: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Trial:
    """How one direction of an edge did when it was tried."""

    latency_ms: float | None
    fault: str | None


class Wiring:
    """The links of one cluster, from its first connect on.

    Attributes:
        graph: What is meant to be linked; None before the first connect.

    Args:
        context: The engine's means.
        slots: The cluster's.
        calls: Asks the cluster's nodes.
    """

    def __init__(self, context: EngineContext, slots: SlotBook, calls: NodeCalls) -> None:
        self.graph: Graph | None = None
        self._context = context
        self._slots = slots
        self._calls = calls
        self._changing = anyio.Lock()
        self._open_views = anyio.CapacityLimiter(MAX_OPEN_VIEWS)
        self._epoch = self._serial = 0
        self._publishers: dict[str, _Publisher] = {}
        self._holdings: dict[str, _Holdings] = {}
        self._trials: dict[tuple[str, str], _Trial] = {}
        self._faults: dict[str, str] = {}

    async def rewire(self, graph: Graph, epoch: int) -> None:
        """Link the nodes in another way, each with a new buffer; what does not work is told by `faults`."""
        async with self._changing:
            self.graph, self._epoch = graph, epoch
            self._trials.clear()
            self._forget(list(self._publishers))
            await self._stitch(list(self._members()))

    async def join(self, slot: Slot) -> None:
        """Give a slot's new process the edges of its slot; nothing when the slot has none."""
        if self.graph is None or slot.name not in self.graph.vertices:
            return
        async with self._changing:
            if slot.healthy:
                await self._stitch([slot])

    async def leave(self, slot: Slot, node_id: str) -> None:
        """Take the edges of one incarnation away; if it lives on, its neighbours move to new buffers."""
        async with self._changing:
            publisher = self._publishers.get(slot.name)
            if publisher is None or publisher.node_id != node_id:
                return  # it had none, or its successor has joined meanwhile
            lives_on = slot.handle is not None and slot.node_id == node_id
            names = self._neighbours(slot.name) if lives_on else ()
            self._forget([slot.name])
            await self._stitch([s for s in self._members() if s.name in names])

    def close(self) -> None:
        """Give up every buffer; for when the processes are gone."""
        self._forget(list(self._publishers))
        self._holdings.clear()

    def working(self) -> list[Edge]:
        """Edges whose ends both live and were seen to read each other."""
        return [] if self.graph is None else [e for e in self.graph.edges if self._works(e)]

    def degree(self, name: str) -> int:
        """Working edges of one slot."""
        return sum(self._works((name, other)) for other in self._neighbours(name))

    def latency_ms(self, edge: Edge) -> float | None:
        """Time in which one end reads the other, of the slower direction when the edge was tried.

        Over shared memory as the reading nodes measured it; where the engine relays, the way there and back;
        to the engine, a round trip of its socket. None where that is not known.
        """
        tried = [self._trials[way] for way in _both_ways(edge) if way in self._trials]
        measured = [trial.latency_ms for trial in tried if trial.latency_ms is not None]
        return max(measured) if len(measured) == len(_both_ways(edge)) else None

    def faults(self) -> dict[Edge, str]:
        """Edges that do not work, and why."""
        edges = () if self.graph is None else self.graph.edges
        return {edge: self._why(edge) for edge in edges if not self._works(edge)}

    def _works(self, edge: Edge) -> bool:
        tried = [self._trials.get(way) for way in _both_ways(edge)]
        proven = all(trial is not None and trial.fault is None for trial in tried)
        return proven and all(self._is_there(name) for name in edge)

    def _why(self, edge: Edge) -> str:
        tried = [self._trials[way].fault for way in _both_ways(edge) if way in self._trials]
        reasons = [*(self._faults.get(name) for name in edge), *tried]
        return next((why for why in reasons if why is not None), "one of its ends is gone")

    def _is_there(self, name: str) -> bool:
        """Whether the process that was linked under this name still lives."""
        if name == ENGINE:
            return True
        publisher, slot = self._publishers.get(name), self._slots[name]
        return publisher is not None and slot.healthy and slot.node_id == publisher.node_id

    def _members(self) -> Iterator[Slot]:
        vertices = () if self.graph is None else self.graph.vertices
        return (slot for slot in self._slots.healthy() if slot.name in vertices)

    def _neighbours(self, name: str) -> tuple[str, ...]:
        return () if self.graph is None else self.graph.neighbours(name)

    def _forget(self, names: Iterable[str]) -> None:
        """Let go of buffers, and of what was found out with them."""
        for name in names:
            publisher = self._publishers.pop(name, None)
            if publisher is not None:
                publisher.buffer.close()
            self._faults.pop(name, None)
            self._trials = {way: trial for way, trial in self._trials.items() if name not in way}

    def _wanted(self, slot: Slot) -> dict[str, str]:
        """Keys that a slot should hold and whose buffers they are: its own, its neighbours'."""
        names = [slot.name, *self._neighbours(slot.name)] if slot.name in self._publishers else []
        return {self._publishers[n].buffer.key: n for n in names if n in self._publishers}

    def _held(self, slot: Slot) -> set[str]:
        """Keys that the slot's present process holds."""
        holdings = self._holdings.get(slot.name)
        if holdings is None or holdings.node_id != slot.node_id:
            holdings = self._holdings[slot.name] = _Holdings(slot.node_id)
        return holdings.keys

    async def _stitch(self, renewed: Sequence[Slot]) -> None:
        """Give slots new buffers, bring what nodes hold in line with the graph, try every way that is new."""
        for slot in renewed:
            self._forget([slot.name])
            self._publish(slot)
        affected = [s for s in self._members() if self._wanted(s).keys() != self._held(s)]
        fresh = {s.name: self._wanted(s).keys() - self._held(s) for s in affected}
        for slot in affected:
            self._faults.pop(slot.name, None)
        async with anyio.create_task_group() as group:
            for slot in affected:
                group.start_soon(self._equip, slot)
        async with anyio.create_task_group() as group:
            for slot in affected:
                ways = {k: n for k, n in self._wanted(slot).items() if k in fresh[slot.name]}
                group.start_soon(self._try, slot, ways)
        for slot in renewed:  # one by one, or each would measure the others' replies as well
            if ENGINE in self._neighbours(slot.name) and slot.name not in self._faults:
                await self._try_engine(slot)

    def _publish(self, slot: Slot) -> None:
        self._serial += 1
        key = f"link:{self._epoch}.{self._serial}:{slot.name}"
        try:
            buffer = self._context.runtime.buffer(key, LINK_LAYOUT)
        except OSError as failure:
            self._faults[slot.name] = f"there is no link buffer for {slot.name}: {failure}"
            return
        self._publishers[slot.name] = _Publisher(
            slot.node_id, buffer, self._context.ports.random_bits(63)
        )

    async def _equip(self, slot: Slot) -> None:
        """Revoke what a node must not hold, grant what it should, let it announce in a new buffer."""
        held, wanted = self._held(slot), self._wanted(slot)
        limit_s = self._context.patience.link.answer_s
        with anyio.move_on_after(limit_s) as patience:
            # All at once, so that the node wakes up once or twice and not for every edge.
            async with anyio.create_task_group() as group:
                group.start_soon(self._revoke, slot, sorted(held - wanted.keys()))
                for key in sorted(wanted.keys() - held):
                    group.start_soon(self._grant, slot, wanted[key])
        if patience.cancelled_caught:
            self._faults[slot.name] = f"{slot.name} did not take its links in {limit_s:g} s"

    async def _revoke(self, slot: Slot, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _KEYS_PER_REVOKE):
            some = keys[start : start + _KEYS_PER_REVOKE]
            await self._calls.revoke(slot, *some)
            self._held(slot).difference_update(some)

    async def _grant(self, slot: Slot, name: str) -> None:
        """Grant a slot its own link buffer, or its view of a neighbour's."""
        publisher, held = self._publishers.get(name), self._held(slot)
        if publisher is None:
            return
        try:
            if name == slot.name:
                await self._calls.grant(slot, publisher.buffer)
                announce = Announce(key=publisher.buffer.key, token=publisher.token)
                await self._calls.ask(slot, announce, self._context.patience.link)
            else:
                await self._grant_view(slot, publisher.buffer)
        except (NodeError, OSError) as failure:
            self._faults.setdefault(slot.name, str(failure))
        else:
            held.add(publisher.buffer.key)

    async def _grant_view(self, slot: Slot, buffer: Buffer) -> None:
        async with self._open_views:
            view = self._context.runtime.view(buffer)
            try:
                await self._calls.grant(slot, view)
            finally:
                view.close()

    async def _try(self, slot: Slot, ways: Mapping[str, str]) -> None:
        """Read the neighbours whose buffers are new to this slot."""
        if slot.name in self._faults:
            return
        others = {key: name for key, name in ways.items() if name != slot.name}
        if self._context.runtime.capabilities.peer_views:
            await self._observe(slot, others)
            return
        for key, name in others.items():
            await self._observe(slot, {key: name}, relayed=True)

    async def _observe(
        self,
        slot: Slot,
        ways: Mapping[str, str],
        *,
        relayed: bool = False,
    ) -> None:
        """Compare what a node reads of its neighbours with what those were told to announce."""
        if not ways:
            return
        began_s = self._context.clock()
        sights: tuple[Sight | None, ...]
        try:
            request = Observe(keys=tuple(ways), reads=READS)
            reply, _ = await self._calls.ask(slot, request, self._context.patience.link)
            sights, fault = reply.sights, None
        except NodeError as failure:
            sights, fault = (None,) * len(ways), str(failure)
        elapsed_ms = (self._context.clock() - began_s) * 1e3
        for name, sight in zip(ways.values(), sights, strict=True):
            publisher = self._publishers.get(name)
            if publisher is None:
                continue
            if not relayed and sight is not None:
                self._calls.pulled(READS * publisher.buffer.nbytes)
            why = fault or _fault(slot.name, name, sight, publisher.token)
            self._trials[slot.name, name] = _Trial(
                # Relayed, what it read lay in its own memory already: the way there is what takes the time.
                elapsed_ms if relayed else _plausible(sight, elapsed_ms),
                why,
            )

    async def _try_engine(self, slot: Slot) -> None:
        """The edge to the engine is the socket that every request goes through."""
        round_trips_ms: list[float] = []
        fault = None
        try:
            for _ in range(READS):
                began_s = self._context.clock()
                await self._calls.ask(slot, Ping(), self._context.patience.link)
                round_trips_ms.append((self._context.clock() - began_s) * 1e3)
        except NodeError as failure:
            fault = str(failure)
        latency_ms = median(round_trips_ms) if fault is None else None
        self._trials[slot.name, ENGINE] = _Trial(latency_ms, fault)
        self._trials[ENGINE, slot.name] = _Trial(latency_ms, fault)


def _both_ways(edge: Edge) -> tuple[Edge, Edge]:
    return edge, (edge[1], edge[0])


def _fault(reader: str, publisher: str, sight: Sight | None, token: int) -> str | None:
    if sight is None:
        return f"{reader} does not hold its view of {publisher}"
    if sight.token != token:
        return f"{reader} does not read what {publisher} was told to announce"
    return None


def _plausible(sight: Sight | None, elapsed_ms: float) -> float | None:
    """A node's word for a time, as far as it can be true."""
    return sight.read_ms if sight is not None and sight.read_ms <= elapsed_ms else None
