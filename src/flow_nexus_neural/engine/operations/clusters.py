"""The clusters of an engine, by id and by name.

A cluster that has ended is a line in memory; whatever else is asked of it is read from disk.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.links.wiring import Wiring
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.operations.restore import read_cluster
from flow_nexus_neural.engine.operations.status import cluster_line
from flow_nexus_neural.engine.reports import ClusterLine
from flow_nexus_neural.engine.state.cluster import ClusterState, was_terminated
from flow_nexus_neural.errors import AmbiguousCluster, ClusterNotFound, StoreCorrupt


@dataclass(frozen=True, slots=True)
class EndedCluster:
    """What is kept in memory of a cluster that has ended."""

    cluster_id: str
    name: str
    created_at: str
    terminated_at: str

    @classmethod
    def of(cls, state: ClusterState) -> "EndedCluster":
        """The line of a cluster whose end is durable."""
        return cls(state.cluster_id, state.spec.name, state.created_at, str(state.terminated_at))

    def line(self) -> ClusterLine:
        """As lists show it."""
        return ClusterLine(
            cluster_id=self.cluster_id,
            name=self.name,
            status="terminated",
            created_at=self.created_at,
        )


class Clusters:
    """All clusters, in the order in which they were created, and those that cannot be read."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._known: dict[str, LiveCluster | EndedCluster] = {}
        self._refused: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def add(self, state: ClusterState) -> LiveCluster:
        """Take in a cluster that is new or was read back."""
        cluster = _with_parts(self._context, state)
        self._known[state.cluster_id] = cluster
        return cluster

    def refuse(self, refused: Mapping[str, str], names: Mapping[str, str]) -> None:
        """These clusters cannot be read, for these reasons; the names of some are known all the same."""
        self._refused.update(refused)
        self._names.update({name: names.get(name, "") for name in refused})

    def let_go(self, cluster: LiveCluster) -> None:
        """Keep no more than a line of a cluster, once its end is durable and nothing of it runs."""
        if cluster.state.end_recorded and cluster.run is None:
            self._known[cluster.cluster_id] = EndedCluster.of(cluster.state)

    def live(self) -> list[LiveCluster]:
        """Those that have not ended."""
        return [
            cluster
            for cluster in self._known.values()
            if isinstance(cluster, LiveCluster) and cluster.state.terminated_at is None
        ]

    def lines(self) -> list[ClusterLine]:
        """All of them, those that cannot be read at the end."""
        lines = [
            cluster.line() if isinstance(cluster, EndedCluster) else cluster_line(cluster)
            for cluster in self._known.values()
        ]
        unreadable = [
            ClusterLine(cluster_id=name, name=self._names[name], status="unreadable", created_at="")
            for name in self._refused
        ]
        return lines + unreadable

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
            raise was_terminated(found.cluster_id, found.terminated_at)
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
            return await self._read_ended(found.cluster_id)
        return self.find(text)

    async def _read_ended(self, cluster_id: str) -> LiveCluster:
        context = self._context
        stored = await context.store.load(cluster_id)
        rows = [row for row in stored.clusters if row.cluster_id == cluster_id]
        if cluster_id in stored.refused or not rows:
            raise _unreadable(cluster_id, stored.refused.get(cluster_id, "its row is missing"))
        return _with_parts(context, await context.offload(read_cluster, context, stored, rows[0]))

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
                hint="pass the id of one that has ended, or create a cluster with neural_cluster_init",
            )
        known = [f"{c.cluster_id} ({c.spec.name})" for c in self.live()]
        more = f" and {len(known) - 8} more" if len(known) > 8 else ""
        return ClusterNotFound(
            f"no cluster {text[:80]!r}. Known: {', '.join(known[:8]) or 'none'}{more}",
            hint="create one with neural_cluster_init",
        )


def _with_parts(context: EngineContext, state: ClusterState) -> LiveCluster:
    """A cluster with the parts that act on it."""
    calls = NodeCalls(state.metrics, context.clock, "sync", context.patience)
    return LiveCluster(context, state, wiring=Wiring(context, state.slots, calls))


def _unreadable(cluster_id: str, reason: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"cluster {cluster_id} does not verify: {reason}",
        hint="restore the state directory from a copy, or create a cluster with neural_cluster_init",
    )
