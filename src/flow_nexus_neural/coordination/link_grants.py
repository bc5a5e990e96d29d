"""Which node holds the key of whose link buffer, and what to grant and revoke so that this fits the graph.

Every linked slot publishes in a buffer of its own, which its key names. A slot may hold its own key and those
of its neighbours. A key that a process once held cannot be taken back for certain, since the process may keep
the memory that it has mapped. So a slot that loses an edge and lives on loses it because its former
neighbours publish under new keys: `leave` says which.
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
    """What has to be done for one reader, so that it holds what it should.

    Attributes:
        reader: Its slot.
        node_id: The incarnation that this is for.
        revoke: Keys to revoke, sorted.
        grant: Publications whose keys to grant, sorted by key.
    """

    reader: str
    node_id: str
    revoke: tuple[str, ...]
    grant: tuple[Publication, ...]


@dataclass(slots=True)
class _Holdings:
    """Keys that one incarnation was granted and has not been told to forget."""

    node_id: str
    keys: set[str] = field(default_factory=set)


class GrantBook:
    """The keys of one cluster: what is published, who holds what, and what the graph asks for.

    It decides and remembers. Whoever carries a change out reports what succeeded with `granted` and
    `revoked`; what was not reported is due again.
    """

    def __init__(self) -> None:
        self._epoch = self._serial = 0
        self._neighbours: dict[str, set[str]] = {}
        self._publications: dict[str, Publication] = {}
        self._holdings: dict[str, _Holdings] = {}

    def want(self, edges: Iterable[Edge], epoch: int) -> None:
        """From now on these edges are wanted, and no others; new keys carry the epoch.

        Edges to the engine need no key: it made all buffers.
        """
        self._epoch = epoch
        self._neighbours = {}
        for one, other in edges:
            if ENGINE in (one, other):
                continue
            self._neighbours.setdefault(one, set()).add(other)
            self._neighbours.setdefault(other, set()).add(one)

    def publish(self, slot: str, node_id: str) -> Publication:
        """A slot publishes under a new key, which was never used before; its former key is withdrawn."""
        self._serial += 1
        made = Publication(slot, node_id, f"link:{self._epoch}.{self._serial}:{slot}")
        self._publications[slot] = made
        return made

    def withdraw(self, slot: str) -> None:
        """A slot publishes nothing any more; whoever holds its key has to give it up."""
        self._publications.pop(slot, None)

    def leave(self, slot: str, *, lives_on: bool) -> tuple[str, ...]:
        """Take a slot's edges away; returns the slots that must publish anew, sorted.

        Those are its neighbours if its process lives on: it may read for ever what it once held.
        """
        self.withdraw(slot)
        return tuple(sorted(self._neighbours.get(slot, ()))) if lives_on else ()

    def due(self, members: Mapping[str, str]) -> tuple[Change, ...]:
        """What is to be done for these slots, in their order; nothing for one that holds what it should.

        Args:
            members: Living slots and the ids of their present incarnations, which is where holdings of a
                former one end.
        """
        return tuple(
            change
            for reader, node_id in members.items()
            if (change := self._change(reader, node_id)) is not None
        )

    def granted(self, change: Change, publication: Publication) -> None:
        """The reader of a change was granted a key."""
        self._keys_of(change).add(publication.key)

    def revoked(self, change: Change, keys: Iterable[str]) -> None:
        """The reader of a change was told to forget keys."""
        self._keys_of(change).difference_update(keys)

    def publication(self, slot: str) -> Publication | None:
        """Under which key a slot publishes now; None when it has no buffer."""
        return self._publications.get(slot)

    def published(self) -> tuple[str, ...]:
        """Slots that publish, sorted."""
        return tuple(sorted(self._publications))

    def held(self, slot: str) -> frozenset[str]:
        """Keys that a slot's latest known incarnation holds."""
        holdings = self._holdings.get(slot)
        return frozenset(holdings.keys if holdings else ())

    def clear(self) -> None:
        """Forget all keys; for when the processes are gone."""
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
        """What a slot should be able to read: itself and its neighbours, if it takes part at all."""
        if reader not in self._publications:
            return ()
        names = {reader, *self._neighbours.get(reader, ())}
        return [self._publications[name] for name in names if name in self._publications]

    def _held_by(self, reader: str, node_id: str) -> set[str]:
        """What an incarnation holds: nothing, when it is new."""
        holdings = self._holdings.get(reader)
        if holdings is None or holdings.node_id != node_id:
            holdings = self._holdings[reader] = _Holdings(node_id)
        return holdings.keys

    def _keys_of(self, change: Change) -> set[str]:
        """The holdings that a report is about; of an incarnation that was replaced, none that count."""
        holdings = self._holdings.get(change.reader)
        current = holdings is not None and holdings.node_id == change.node_id
        return holdings.keys if holdings is not None and current else set()
