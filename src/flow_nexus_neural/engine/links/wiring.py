"""The links between the nodes of a cluster: what is meant to be linked, and which of it works.

Every edge is tried in both directions before it counts: the engine draws a token, one end announces it, the
other must read it.
"""

from collections.abc import Iterator, Sequence

import anyio

from flow_nexus_neural.coordination.link_grants import Change
from flow_nexus_neural.coordination.topology import ENGINE, Edge, Graph
from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.links.grants import LinkGrants
from flow_nexus_neural.engine.links.probe import LinkProbe, Trial
from flow_nexus_neural.engine.state.slots import Slot, SlotBook


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
        self._slots = slots
        self._grants = LinkGrants(context, calls)
        self._probe = LinkProbe(context, calls)
        self._changing = anyio.Lock()
        self._trials: dict[Edge, Trial] = {}

    async def rewire(self, graph: Graph, epoch: int) -> None:
        """Link the nodes in another way, each with a new buffer; `faults` says what does not work."""
        async with self._changing:
            self.graph = graph
            self._trials.clear()
            self._grants.want(graph, epoch)
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
            if self._grants.publisher_id(slot.name) != node_id:
                return  # it had none, or its successor has joined meanwhile
            lives_on = slot.handle is not None and slot.node_id == node_id
            names = self._grants.leave(slot.name, lives_on=lives_on)
            self._forget_trials(slot.name)
            await self._stitch([s for s in self._members() if s.name in names])

    def close(self) -> None:
        """Give up every buffer; for when the processes are gone."""
        self._grants.close()
        self._trials.clear()

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

    def key(self, name: str) -> str | None:
        """The key under which a slot publishes; None when it has no buffer."""
        return self._grants.key(name)

    def token(self, name: str) -> int | None:
        """What a slot was told to announce; None when it has no buffer."""
        return self._grants.token(name)

    def held(self, name: str) -> frozenset[str]:
        """Keys that a slot's process was granted and has not been told to forget."""
        return self._grants.held(name)

    def _works(self, edge: Edge) -> bool:
        tried = [self._trials.get(way) for way in _both_ways(edge)]
        proven = all(trial is not None and trial.fault is None for trial in tried)
        return proven and all(self._is_there(name) for name in edge)

    def _why(self, edge: Edge) -> str:
        tried = [self._trials[way].fault for way in _both_ways(edge) if way in self._trials]
        reasons = [*(self._grants.fault(name) for name in edge), *tried]
        return next((why for why in reasons if why is not None), "one of its ends is gone")

    def _is_there(self, name: str) -> bool:
        """Whether the process that was linked under this name still lives."""
        if name == ENGINE:
            return True
        slot = self._slots[name]
        return slot.healthy and slot.node_id == self._grants.publisher_id(name)

    def _members(self) -> Iterator[Slot]:
        vertices = () if self.graph is None else self.graph.vertices
        return (slot for slot in self._slots.healthy() if slot.name in vertices)

    def _neighbours(self, name: str) -> tuple[str, ...]:
        return () if self.graph is None else self.graph.neighbours(name)

    def _forget_trials(self, name: str) -> None:
        """What was found out with a slot's former buffer says nothing about its next one."""
        self._trials = {way: trial for way, trial in self._trials.items() if name not in way}

    async def _stitch(self, renewed: Sequence[Slot]) -> None:
        """Give slots new buffers, bring what nodes hold in line with the graph, try every way that is new.

        In this order: all buffers are there before the book compares, or a node would be equipped twice; all
        nodes have announced before the first one reads, or it would find nothing; the engine's own edges
        come last and one by one, since a round trip that waits behind others' replies measures those too.
        """
        for slot in renewed:
            self._forget_trials(slot.name)
            self._grants.publish(slot)
        members = {slot.name: slot for slot in self._members()}
        changes = self._grants.due(members.values())
        async with anyio.create_task_group() as group:
            for change in changes:
                group.start_soon(self._grants.carry_out, members[change.reader], change)
        async with anyio.create_task_group() as group:
            for change in changes:
                group.start_soon(self._try, members[change.reader], change)
        for slot in renewed:
            if ENGINE in self._neighbours(slot.name) and self._grants.fault(slot.name) is None:
                trial = await self._probe.ping(slot)
                self._trials[slot.name, ENGINE] = self._trials[ENGINE, slot.name] = trial

    async def _try(self, slot: Slot, change: Change) -> None:
        """Read the neighbours whose buffers are new to this slot."""
        announced = self._grants.to_try(change)
        trials = await self._probe.read(slot, announced)
        for one, trial in zip(announced, trials, strict=True):
            if self._grants.is_current(one):
                self._trials[slot.name, one.slot] = trial


def _both_ways(edge: Edge) -> tuple[Edge, Edge]:
    return edge, (edge[1], edge[0])
