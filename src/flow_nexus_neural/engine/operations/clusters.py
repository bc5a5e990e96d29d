"""The clusters of an engine, by id and by name.

A cluster that has ended is a line in memory; whatever else is asked of it is read from disk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flow_nexus_neural.coordination.membership import count
from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.links.wiring import Wiring
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.operations.fall_back import ways_back
from flow_nexus_neural.engine.operations.restore import read_cluster
from flow_nexus_neural.engine.operations.status import cluster_state
from flow_nexus_neural.engine.reports import ClusterLine, ClusterList
from flow_nexus_neural.engine.requests import ListRequest
from flow_nexus_neural.engine.state.cluster import ClusterState, was_terminated
from flow_nexus_neural.engine.storage.rows import ClusterRow, Stored
from flow_nexus_neural.engine.wasm.serving import WasmServing
from flow_nexus_neural.errors import (
    AmbiguousCluster,
    ClusterNotFound,
    ClusterTerminated,
    StoreCorrupt,
)


@dataclass(frozen=True, slots=True)
class EndedCluster:
    """What is kept in memory of a cluster that has ended.

    Attributes:
        deleted: Its files were deleted, so that it cannot come back.
        ways: Sets of checkpoint files, each enough to come back: of the version in force, and of those that
            can take its place.
    """

    cluster_id: str
    name: str
    terminated_at: str
    deleted: bool
    ways: tuple[frozenset[str], ...]
    line: ClusterLine

    @classmethod
    def of(cls, cluster: LiveCluster) -> "EndedCluster":
        """What is kept of a cluster whose end is durable."""
        state = cluster.state
        return cls(
            cluster_id=state.cluster_id,
            name=state.spec.name,
            terminated_at=str(state.terminated_at),
            deleted=state.artifacts_deleted,
            ways=ways_back(state),
            line=_line(cluster),
        )

    def refuse(self) -> ClusterTerminated:
        """What to say of anything that must not go on in it."""
        return was_terminated(self.cluster_id, self.terminated_at, deleted=self.deleted)


class Clusters:
    """All clusters, in the order in which they were created, and those that cannot be read."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._known: dict[str, LiveCluster | EndedCluster] = {}
        self._refused: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def add(self, cluster: LiveCluster) -> LiveCluster:
        """Take in a cluster that is new or was read back."""
        self._known[cluster.cluster_id] = cluster
        return cluster

    def refuse(self, refused: Mapping[str, str], names: Mapping[str, str]) -> None:
        """These clusters cannot be read, for these reasons; the names of some are known all the same."""
        self._refused.update(refused)
        self._names.update({name: names.get(name, "") for name in refused})

    def let_go(self, cluster: LiveCluster) -> None:
        """Keep no more than a line of a cluster, once its end is durable and nothing of it runs."""
        if cluster.state.end_recorded and cluster.run is None:
            self._known[cluster.cluster_id] = EndedCluster.of(cluster)

    def known(self, cluster_id: str) -> LiveCluster | None:
        """The cluster of an id, as long as more than a line of it is kept."""
        found = self._known.get(cluster_id)
        return found if isinstance(found, LiveCluster) else None

    def live(self) -> list[LiveCluster]:
        """Those that have not ended."""
        return [
            cluster
            for cluster in self._known.values()
            if isinstance(cluster, LiveCluster) and cluster.state.terminated_at is None
        ]

    async def report(self, request: ListRequest | None) -> ClusterList:
        """A line of each, in the order in which they were created; those that cannot be read at the end.

        Args:
            request: Which to list; None for all. What cannot be read is always listed.
        """
        ended = [c.line for c in self._known.values() if isinstance(c, EndedCluster)]
        lines = [
            cluster.line if isinstance(cluster, EndedCluster) else _line(cluster)
            for cluster in self._known.values()
        ]
        if request is not None and not request.include_ended:
            lines = [line for line in lines if line.status != "terminated"]
        kept = lines if request is None else lines[-request.limit :]
        kept = await self._context.offload(self._with_files, kept)
        notices = self._context.notices
        warnings = [*notices.always, *notices.lists]
        warnings += [f"{name} cannot be read: {reason}" for name, reason in self._refused.items()]
        if len(kept) < len(lines):
            warnings.append(
                f"{len(lines) - len(kept)} older clusters are not listed; a larger limit lists them too"
            )
        return ClusterList(
            clusters=kept + [_unreadable_line(name, self._names[name]) for name in self._refused],
            live=len(self.live()),
            ended=len(ended),
            warnings=warnings,
        )

    def _with_files(self, lines: Sequence[ClusterLine]) -> list[ClusterLine]:
        """The lines, each of an ended cluster with whether all that it needs to come back is there."""
        return [
            line.model_copy(update={"restorable": _is_whole(self._context, ended)})
            if isinstance(ended := self._known.get(line.cluster_id), EndedCluster)
            else line
            for line in lines
        ]

    def ended(self, text: str) -> EndedCluster | None:
        """One that has ended, by id or by a name that only one of them has; None where there is none.

        Raises:
            AmbiguousCluster: Several that have ended have this name.
        """
        found = self._known.get(text)
        if isinstance(found, EndedCluster):
            return found
        named = [c for c in self._known.values() if isinstance(c, EndedCluster) and c.name == text]
        if len(named) > 1:
            listed = ", ".join(f"{c.cluster_id} (ended {c.terminated_at})" for c in named[-8:])
            raise AmbiguousCluster(
                f"{len(named)} clusters named {text[:80]!r} have ended: {listed}",
                hint="pass one of these ids as restore",
            )
        return named[0] if named else None

    async def read_whole(self, ended: EndedCluster) -> tuple[Stored, ClusterRow]:
        """All that is stored of a cluster that has ended. Raises `StoreCorrupt`."""
        cluster_id = ended.cluster_id
        stored = await self._context.store.load(cluster_id)
        rows = [row for row in stored.clusters if row.cluster_id == cluster_id]
        if cluster_id in stored.refused or not rows:
            raise _unreadable(cluster_id, stored.refused.get(cluster_id, "its row is missing"))
        return stored, rows[0]

    def unreadable_named(self, name: str) -> list[str]:
        """Ids of clusters of this name that cannot be read."""
        return [cluster_id for cluster_id, own in self._names.items() if own == name]

    def find(self, text: str) -> LiveCluster:
        """A cluster by id, or by its name when exactly one live cluster has it.

        Raises:
            ClusterNotFound, AmbiguousCluster: There is none, or more than one.
            ClusterTerminated: It has ended.
            StoreCorrupt: It cannot be read.
        """
        found = self._look_up(text)
        if found is None:
            raise self._unknown(text, None)
        if isinstance(found, EndedCluster):
            raise found.refuse()
        return found

    async def find_live(self, text: str) -> LiveCluster:
        """As `find`; one that is ending is refused like one that has ended."""
        await self._refuse_unknown(text)
        cluster = self.find(text)
        cluster.state.refuse_ended()
        return cluster

    async def read(self, text: str) -> LiveCluster:
        """As `find`; one that has ended is read from disk, for this call alone.

        Raises:
            ClusterNotFound, AmbiguousCluster, StoreCorrupt: As `find`.
        """
        await self._refuse_unknown(text)
        found = self._look_up(text)
        if isinstance(found, EndedCluster):
            context = self._context
            stored, row = await self.read_whole(found)
            state = await context.offload(read_cluster, context, stored, row, context.clock())
            return with_parts(context, state)
        return self.find(text)

    async def _refuse_unknown(self, text: str) -> None:
        if self._look_up(text) is None:
            raise self._unknown(text, await self._context.store.owner_of(text))

    def _look_up(self, text: str) -> LiveCluster | EndedCluster | None:
        if text in self._known:
            return self._known[text]
        if text in self._refused:
            raise _unreadable(text, self._refused[text])
        named = [c for c in self.live() if c.spec.name == text]
        if len(named) > 1:
            ids = ", ".join(c.cluster_id for c in named[:8])
            raise AmbiguousCluster(
                f"{len(named)} live clusters are named {text!r}: {ids}",
                hint="pass one of these ids as cluster_id",
            )
        if named:
            return named[0]
        lost = self.unreadable_named(text) if text else []
        if lost:
            raise _unreadable(lost[0], self._refused[lost[0]])
        return None

    def _unknown(self, text: str, owner: str | None) -> ClusterNotFound:
        for cluster in self.live():  # a node that is still starting has no row
            ids = [s.node_id for s in cluster.slots] + [
                t.training_id for t in cluster.state.trainings
            ]
            owner = cluster.cluster_id if text in ids else owner
        if owner is not None:
            return ClusterNotFound(
                f"{text!r} is a node or training of cluster {owner}, not a cluster",
                hint=f"pass cluster_id {owner}",
            )
        ended = [
            c.cluster_id
            for c in self._known.values()
            if isinstance(c, EndedCluster) and c.name == text
        ]
        if ended:
            return ClusterNotFound(
                f"no live cluster is named {text[:80]!r}; ended with this name: {', '.join(ended[-8:])}",
                hint="pass the id of one that has ended, bring it back with neural_cluster_init (restore), or"
                " create a cluster with neural_cluster_init",
            )
        known = [f"{c.cluster_id} ({c.spec.name})" for c in self.live()]
        more = f" and {len(known) - 8} more" if len(known) > 8 else ""
        place = "".join(f"{notice}. " for notice in self._context.notices.always)
        return ClusterNotFound(
            f"no cluster {text[:80]!r}. Known: {', '.join(known[:8]) or 'none'}{more}",
            hint=f"{place}create one with neural_cluster_init",
        )


def with_parts(context: EngineContext, state: ClusterState) -> LiveCluster:
    """A cluster with the parts that act on it."""
    calls = NodeCalls(state.metrics, context.clock, "sync", context.patience)
    cluster = LiveCluster(context, state, wiring=Wiring(context, state.slots, calls))
    cluster.compute_with(WasmServing(cluster))
    return cluster


def _line(cluster: LiveCluster) -> ClusterLine:
    counts = count([slot.state for slot in cluster.slots])
    training = cluster.state.latest_training
    return ClusterLine(
        cluster_id=cluster.cluster_id,
        name=cluster.spec.name,
        status=cluster_state(cluster),
        created_at=cluster.state.created_at,
        active_nodes=counts.active,
        total_nodes=counts.total,
        training_status=training.status if training else "none",
        training_progress=training.percent if training else 0.0,
        model_version=cluster.committed.version if cluster.committed else None,
        restorable=None,
    )


def _is_whole(context: EngineContext, ended: EndedCluster) -> bool:
    """Whether a cluster could come back, as far as that shows without reading its files. Blocking."""
    there = context.checkpoints.path
    return not ended.deleted and any(
        all(there(name).exists() for name in files) for files in ended.ways
    )


def _unreadable_line(cluster_id: str, name: str) -> ClusterLine:
    return ClusterLine(
        cluster_id=cluster_id,
        name=name,
        status="unreadable",
        created_at="",
        active_nodes=None,
        total_nodes=None,
        training_status=None,
        training_progress=None,
        model_version=None,
        restorable=None,
    )


def _unreadable(cluster_id: str, reason: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"cluster {cluster_id} does not verify: {reason}",
        hint="restore the state directory from a copy, or create a cluster with neural_cluster_init",
    )
