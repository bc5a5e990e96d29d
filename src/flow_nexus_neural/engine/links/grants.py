"""Carries out on the nodes what the book of grants decides: buffers made, keys granted and revoked.

A link is a capability that only the engine hands out. Every linked node announces a token, which the engine
drew, in a link buffer of its own; each end of an edge is granted a view of the other's buffer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import anyio

from flow_nexus_neural.coordination.link_grants import Change, GrantBook, Publication
from flow_nexus_neural.coordination.topology import Graph
from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.links.probe import Announced
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import NodeError
from flow_nexus_neural.protocol.messages import LINK_LAYOUT, Announce
from flow_nexus_neural.runtime.base import Buffer

MAX_OPEN_VIEWS = 128
"""A view is a descriptor of the server until the node has it; a mesh of 32 nodes has 992."""
_KEYS_PER_REVOKE = 256


@dataclass(frozen=True, slots=True)
class _Published:
    """The buffer behind a publication, and the token that its writer is told to announce in it."""

    publication: Publication
    buffer: Buffer
    token: int


class LinkGrants:
    """The link buffers of one cluster, and what was granted of them.

    Args:
        context: The engine's means.
        calls: Asks the cluster's nodes.
    """

    def __init__(self, context: EngineContext, calls: NodeCalls) -> None:
        self._context = context
        self._calls = calls
        self._open_views = anyio.CapacityLimiter(MAX_OPEN_VIEWS)
        self._book = GrantBook()
        self._published: dict[str, _Published] = {}
        self._faults: dict[str, str] = {}

    def want(self, graph: Graph, epoch: int) -> None:
        """The edges of this graph are wanted from now on; every buffer is given up."""
        self.withdraw_all()
        self._book.want(graph.edges, epoch)

    def publish(self, slot: Slot) -> None:
        """Give a slot a new buffer in place of its former one; a failure is kept as its fault."""
        self.withdraw(slot.name)
        publication = self._book.publish(slot.name, slot.node_id)
        try:
            buffer = self._context.runtime.buffer(publication.key, LINK_LAYOUT)
        except OSError as failure:
            self._book.withdraw(slot.name)
            self._faults[slot.name] = f"there is no link buffer for {slot.name}: {failure}"
            return
        token = self._context.ports.random_bits(63)
        self._published[slot.name] = _Published(publication, buffer, token)

    def withdraw(self, name: str) -> None:
        """Give up a slot's buffer, and what was found wrong with the slot."""
        self._book.withdraw(name)
        published = self._published.pop(name, None)
        if published is not None:
            published.buffer.close()
        self._faults.pop(name, None)

    def withdraw_all(self) -> None:
        """Give up every buffer."""
        for name in self._book.published():
            self.withdraw(name)

    def leave(self, name: str, *, lives_on: bool) -> tuple[str, ...]:
        """Take a slot's edges away; returns the slots that need new buffers because it lives on."""
        renewed = self._book.leave(name, lives_on=lives_on)
        self.withdraw(name)
        return renewed

    def close(self) -> None:
        """Give up every buffer and forget who held what; for when the processes are gone."""
        self.withdraw_all()
        self._book.clear()

    def publisher_id(self, name: str) -> str | None:
        """The node id of the incarnation that publishes under a slot's name."""
        publication = self._book.publication(name)
        return publication.node_id if publication else None

    def key(self, name: str) -> str | None:
        """The key under which a slot publishes; None when it has no buffer."""
        publication = self._book.publication(name)
        return publication.key if publication else None

    def token(self, name: str) -> int | None:
        """What a slot was told to announce; None when it has no buffer."""
        published = self._published.get(name)
        return published.token if published else None

    def held(self, name: str) -> frozenset[str]:
        """Keys that a slot's process was granted and has not been told to forget."""
        return self._book.held(name)

    def fault(self, name: str) -> str | None:
        """Why a slot could not be given its buffer or its keys."""
        return self._faults.get(name)

    def due(self, members: Iterable[Slot]) -> tuple[Change, ...]:
        """What has to be granted and revoked so that these slots hold what the graph asks for."""
        changes = self._book.due({slot.name: slot.node_id for slot in members})
        for change in changes:
            if change.reader in self._published:  # without a buffer its fault is still true
                self._faults.pop(change.reader, None)
        return changes

    def to_try(self, change: Change) -> tuple[Announced, ...]:
        """What the reader of a change is to read of neighbours whose buffers are new to it."""
        if self.fault(change.reader) is not None:
            return ()
        found = (self._current(publication) for publication in change.grant)
        return tuple(
            Announced(one.publication.slot, one.publication.key, one.token, one.buffer.nbytes)
            for one in found
            if one is not None and one.publication.slot != change.reader
        )

    def is_current(self, announced: Announced) -> bool:
        """Whether a neighbour still publishes what was read."""
        return self.key(announced.slot) == announced.key

    async def carry_out(self, slot: Slot, change: Change) -> None:
        """Revoke what a node must not hold, grant what it should, let it announce in a new buffer."""
        limit_s = self._context.patience.link.answer_s
        with anyio.move_on_after(limit_s) as patience:
            # All at once, so that the node wakes up once or twice and not for every edge.
            async with anyio.create_task_group() as group:
                group.start_soon(self._revoke, slot, change)
                for publication in change.grant:
                    group.start_soon(self._grant, slot, change, publication)
        if patience.cancelled_caught:
            self._faults[slot.name] = f"{slot.name} did not take its links in {limit_s:g} s"

    async def _revoke(self, slot: Slot, change: Change) -> None:
        for start in range(0, len(change.revoke), _KEYS_PER_REVOKE):
            some = change.revoke[start : start + _KEYS_PER_REVOKE]
            await self._calls.revoke(slot, *some)
            self._book.revoked(change, some)

    async def _grant(self, slot: Slot, change: Change, publication: Publication) -> None:
        """Grant a slot its own link buffer, or its view of a neighbour's."""
        published = self._current(publication)
        if published is None:
            return  # the cluster was terminated meanwhile
        try:
            if publication.slot == slot.name:
                await self._calls.grant(slot, published.buffer)
                announce = Announce(key=publication.key, token=published.token)
                await self._calls.ask(slot, announce, self._context.patience.link)
            else:
                await self._grant_view(slot, published.buffer)
        except (NodeError, OSError) as failure:
            self._faults.setdefault(slot.name, str(failure))
        else:
            self._book.granted(change, publication)

    def _current(self, publication: Publication) -> _Published | None:
        """What is behind a publication, unless it was withdrawn or replaced."""
        published = self._published.get(publication.slot)
        return published if published and published.publication == publication else None

    async def _grant_view(self, slot: Slot, buffer: Buffer) -> None:
        async with self._open_views:
            view = self._context.runtime.view(buffer)
            try:
                await self._calls.grant(slot, view)
            finally:
                view.close()
