"""Decides which link buffers to grant to and revoke from each node, so that access matches the graph.

Every linked slot publishes in its own buffer, identified by a key. A slot may read its own buffer and those
of its neighbours. A revoke cannot be enforced, since a process may keep memory that it has mapped. So if a
slot loses its edges while its process lives, its former neighbours must publish in new buffers, under new
keys; `leave` returns these neighbours.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from flow_nexus_neural.coordination.topology import ENGINE, Edge


@dataclass(frozen=True, slots=True)
class Publication:
    """The key under which one incarnation of a slot publishes."""

    slot: str
    node_id: str
    key: str


@dataclass(frozen=True, slots=True)
class Change:
    """Grants and revokes that one reader needs.

    Attributes:
        reader: The slot.
        node_id: The incarnation for which the change was computed.
        revoke: Keys to revoke, sorted.
        grant: Publications whose keys to grant, sorted by key.
    """

    reader: str
    node_id: str
    revoke: tuple[str, ...]
    grant: tuple[Publication, ...]


@dataclass(slots=True)
class _Holdings:
    """Keys that one incarnation was granted and that were not revoked since."""

    node_id: str
    keys: set[str] = field(default_factory=set)


class GrantBook:
    """The keys of one cluster: published keys, keys held by each slot, and the wanted edges.

    It performs no calls. The caller executes changes and reports with `granted` and `revoked` what succeeded;
    the rest is returned by `due` again.
    """

    def __init__(self) -> None:
        self._epoch = self._serial = 0
        self._neighbours: dict[str, set[str]] = {}
        self._publications: dict[str, Publication] = {}
        self._holdings: dict[str, _Holdings] = {}

    def want(self, edges: Iterable[Edge], epoch: int) -> None:
        """Replace the wanted edges; new keys contain the epoch.

        Edges to the engine need no key, since the engine created all buffers.
        """
        self._epoch = epoch
        self._neighbours = {}
        for one, other in edges:
            if ENGINE in (one, other):
                continue
            self._neighbours.setdefault(one, set()).add(other)
            self._neighbours.setdefault(other, set()).add(one)

    def publish(self, slot: str, node_id: str) -> Publication:
        """Give a slot a new key, which was never used before; its former key is withdrawn."""
        self._serial += 1
        made = Publication(slot, node_id, f"link:{self._epoch}.{self._serial}:{slot}")
        self._publications[slot] = made
        return made

    def withdraw(self, slot: str) -> None:
        """End a slot's publication; its key will be revoked from all holders."""
        self._publications.pop(slot, None)

    def leave(self, slot: str, *, lives_on: bool) -> tuple[str, ...]:
        """Remove a slot's publication; returns the slots that need new keys, sorted.

        Those are its neighbours if its process lives on, which may keep the mappings of their buffers.
        """
        self.withdraw(slot)
        return tuple(sorted(self._neighbours.get(slot, ()))) if lives_on else ()

    def due(self, members: Mapping[str, str]) -> tuple[Change, ...]:
        """The changes that these slots need, in their order.

        Args:
            members: Live slots with the ids of their present incarnations; keys held by a former incarnation
                do not count.
        """
        return tuple(
            change
            for reader, node_id in members.items()
            if (change := self._change(reader, node_id)) is not None
        )

    def granted(self, change: Change, publication: Publication) -> None:
        """Record that the reader of a change was granted a key."""
        self._keys_of(change).add(publication.key)

    def revoked(self, change: Change, keys: Iterable[str]) -> None:
        """Record that keys were revoked from the reader of a change."""
        self._keys_of(change).difference_update(keys)

    def publication(self, slot: str) -> Publication | None:
        """The present publication of a slot; None if it has no buffer."""
        return self._publications.get(slot)

    def published(self) -> tuple[str, ...]:
        """Slots that publish, sorted."""
        return tuple(sorted(self._publications))

    def held(self, slot: str) -> frozenset[str]:
        """Keys held by the latest known incarnation of a slot."""
        holdings = self._holdings.get(slot)
        return frozenset(holdings.keys if holdings else ())

    def clear(self) -> None:
        """Drop all keys; for use when all processes have ended."""
        self._publications.clear()
        self._holdings.clear()

    def _change(self, reader: str, node_id: str) -> Change | None:
        wanted = {publication.key: publication for publication in self._readable(reader)}
        held = self._held_by(reader, node_id)
        if wanted.keys() == held:
            return None
        return Change(
            reader,
            node_id,
            revoke=tuple(sorted(held - wanted.keys())),
            grant=tuple(wanted[key] for key in sorted(wanted.keys() - held)),
        )

    def _readable(self, reader: str) -> Iterable[Publication]:
        """Publications that a slot may read: its own and its neighbours', if it publishes itself."""
        if reader not in self._publications:
            return ()
        names = {reader, *self._neighbours.get(reader, ())}
        return [self._publications[name] for name in names if name in self._publications]

    def _held_by(self, reader: str, node_id: str) -> set[str]:
        """Keys that an incarnation holds; none if it is new."""
        holdings = self._holdings.get(reader)
        if holdings is None or holdings.node_id != node_id:
            holdings = self._holdings[reader] = _Holdings(node_id)
        return holdings.keys

    def _keys_of(self, change: Change) -> set[str]:
        """The keys that a report concerns; a discarded set if the incarnation was replaced meanwhile."""
        holdings = self._holdings.get(change.reader)
        current = holdings is not None and holdings.node_id == change.node_id
        return holdings.keys if holdings is not None and current else set()
