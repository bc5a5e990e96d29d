"""What happened to a cluster, made durable: ledger entries and the rows that go with them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from pydantic import JsonValue

from flow_nexus_neural.coordination.ledger import Entry, Head, check_commit, make_entry
from flow_nexus_neural.engine.context import EngineContext, timestamp
from flow_nexus_neural.engine.state.cluster import Cluster, LedgerHead
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.storage.rows import ClusterRow, HistoryRow, SlotRow, TrainingRow

Row = ClusterRow | SlotRow | TrainingRow | HistoryRow
LateRow = Row | Callable[[], Row]
"""A row, or how to make it when its turn to be written has come."""


async def record(
    context: EngineContext,
    cluster: Cluster,
    entries: Sequence[Mapping[str, JsonValue]],
    rows: Sequence[LateRow],
    *,
    blobs: Sequence[tuple[str, int, str]] = (),
    dropped: Sequence[str] = (),
) -> None:
    """Append entries to a cluster's ledger, together with the rows that rest on them, or nothing.

    Entries are sealed here, one writer at a time, so the chain cannot fork. A row that may change while
    others write (the cluster's own) is given as the function that makes it.

    Raises:
        StoreUnavailable, StoreCorrupt: Nothing was stored.
        UpdateRejected: A version entry does not follow its network's current version. Nothing was stored.
    """
    async with cluster.ledger_lock:
        head = cluster.head
        versions = dict(head.versions)
        sealed: list[Entry] = []
        for fields in entries:
            if fields["kind"] == "version":
                network, parent = str(fields["cohort"]), int(str(fields["parent"]))
                at = Head(prev_sha=head.sha, next_seq=head.seq, versions=versions)
                versions[network] = check_commit(at, network, parent)
            entry = make_entry(
                head.sha,
                {"seq": head.seq, "cluster_id": cluster.cluster_id, "at": timestamp(), **fields},
            )
            sealed.append(entry)
            head = LedgerHead(head.seq + 1, str(entry["entry_sha"]), versions)
        made = [row() if callable(row) else row for row in rows]
        await context.store.commit_version(sealed, made, blobs=blobs, dropped=dropped)
        cluster.head = head


async def note_membership(context: EngineContext, cluster: Cluster, slot: Slot, event: str) -> None:
    """A slot's incarnation joined, failed or left."""
    fields: dict[str, JsonValue] = {
        "kind": "membership",
        "event": event,
        "slot": slot.name,
        "node_id": slot.node_id,
        "incarnation": slot.incarnation,
        "reason": slot.last_error,
    }
    row = partial(slot.to_row, cluster.cluster_id)
    # A worker that joins may have joined what serves, too.
    await record(context, cluster, [fields], [row, cluster.to_row])


async def note_topology(context: EngineContext, cluster: Cluster) -> None:
    """The nodes are linked in another way."""
    links = cluster.links
    fields: dict[str, JsonValue] = {
        "kind": "topology",
        "topology": cluster.topology,
        "topology_epoch": cluster.topology_epoch,
        "edges": [list(edge) for edge in links.graph.edges] if links else [],
    }
    await record(context, cluster, [fields], [cluster.to_row])
