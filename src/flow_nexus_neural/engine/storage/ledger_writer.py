"""What happened to a cluster, made durable: ledger entries and the rows that go with them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import anyio
from pydantic import JsonValue

from flow_nexus_neural.coordination.ledger import Entry, Head, check_commit, make_entry
from flow_nexus_neural.engine.state.cluster import ClusterState
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.storage.cluster_rows import present_cluster_row, slot_row
from flow_nexus_neural.engine.storage.row_digests import ROWS, digests_of
from flow_nexus_neural.engine.storage.rows import ClusterRow, HistoryRow, SlotRow, TrainingRow
from flow_nexus_neural.engine.storage.schema import Write
from flow_nexus_neural.engine.storage.store import Store

Row = ClusterRow | SlotRow | TrainingRow | HistoryRow
LateRow = Row | Callable[[], Row]
"""A row, or how to make it when its turn to be written has come."""

LINKED_AGAIN = "linked_again"
"""Of a topology that is as it was before the server ended."""


class LedgerWriter:
    """Appends to the ledger of one cluster, one writer at a time, so that the chain cannot fork.

    Args:
        store: Where entries and rows become durable.
        state: The cluster's; its ledger head moves on with every entry.
        timestamp: Now, as ISO 8601 in UTC.
    """

    def __init__(self, store: Store, state: ClusterState, timestamp: Callable[[], str]) -> None:
        self._store = store
        self._state = state
        self._timestamp = timestamp
        self._writing = anyio.Lock()

    async def record(
        self,
        entries: Sequence[Mapping[str, JsonValue]],
        rows: Sequence[LateRow],
        *,
        blobs: Sequence[tuple[str, int, str]] = (),
        dropped: Sequence[str] = (),
        more: Sequence[Write] = (),
    ) -> None:
        """Append entries, together with the rows that rest on them, or nothing.

        The last entry names the digest of every row, so rows are never written without an entry.

        Args:
            entries: At least one, not yet sealed; a `version` entry has `cohort` (its network group) and
                `parent`.
            rows: One that may change while others write (the cluster's own) is given as the function that
                makes it.
            blobs: (sha, bytes, kind) of files that are durable already.
            dropped: Files that nothing needs once this is durable.
            more: Rows of the same transaction that the ledger does not name.

        Raises:
            StoreUnavailable, StoreCorrupt: Nothing was stored.
            UpdateRejected: A version does not follow its network group's current one. Nothing was stored.
            ValueError: There are rows and no entry. Nothing was stored.
        """
        if rows and not entries:  # the cluster would be refused when it is next read
            raise ValueError("a row needs an entry that names it")
        async with self._writing:
            head = self._state.ledger_head
            made = [row() if callable(row) else row for row in rows]
            named: dict[str, JsonValue] = {ROWS: digests_of(made)} if made else {}
            sealed: list[Entry] = []
            for number, fields in enumerate(entries, 1):
                last = named if number == len(entries) else {}
                entry, head = self._sealed({**fields, **last}, head)
                sealed.append(entry)
            await self._store.commit_version(sealed, made, blobs=blobs, dropped=dropped, more=more)
            self._state.advance_ledger(head)

    async def name_rows(self, digests: Mapping[str, str]) -> None:
        """Name rows as they are stored, of a cluster whose ledger names none. Raises as `record`."""
        fields: dict[str, JsonValue] = {"kind": "control", "event": "rows_named"}
        await self.record([{**fields, ROWS: dict(digests)}], [])

    async def record_membership(self, slot: Slot, event: str) -> None:
        """Record that a slot's incarnation joined, failed or left. Raises as `record`."""
        fields: dict[str, JsonValue] = {
            "kind": "membership",
            "event": event,
            "slot": slot.name,
            "node_id": slot.node_id,
            "incarnation": slot.incarnation,
            "reason": slot.last_error,
        }
        rows: list[LateRow] = [partial(slot_row, self._state.cluster_id, slot)]
        version = self._state.durable_version
        serves = version is not None and version.network_of(slot.name) is not None
        if serves or slot.state == "retired":
            # Only a slot that serves, or did, can have changed the cluster's own row, which is long.
            rows.append(partial(present_cluster_row, self._state))
        await self.record([fields], rows)

    async def record_topology(self, event: str | None = None) -> None:
        """Record that the nodes are linked in another way. Raises as `record`.

        Args:
            event: What made them so, where nobody asked for it.
        """
        links = self._state.links
        fields: dict[str, JsonValue] = {
            "kind": "topology",
            "topology": self._state.topology,
            "topology_epoch": self._state.topology_epoch,
            "edges": [list(edge) for edge in links.graph.edges] if links else [],
        }
        if event is not None:
            fields["event"] = event
        await self.record([fields], [partial(present_cluster_row, self._state)])

    def _sealed(self, fields: Mapping[str, JsonValue], head: Head) -> tuple[Entry, Head]:
        """An entry that continues the chain at `head`, and the head after it."""
        versions = dict(head.versions)
        if fields["kind"] == "version":
            network, parent = str(fields["cohort"]), int(str(fields["parent"]))
            versions[network] = check_commit(head, network, parent)
        entry = make_entry(
            head.prev_sha,
            {
                "seq": head.next_seq,
                "cluster_id": self._state.cluster_id,
                "at": self._timestamp(),
                **fields,
            },
        )
        return entry, Head(str(entry["entry_sha"]), head.next_seq + 1, versions)
