"""Plans how the members of a network group average their states along the links of a topology.

Every member that trained holds an *update*; in the end every member holds the same *state*. A plan is a list
of steps. In a step members read what their neighbours hold and write into their own state, all at once; the
next step begins when all are done. Nothing else travels, so the bytes of a plan are known exactly.

With n members, and M bytes of state that all of them contribute:

| topology | steps | most bytes read from one member | total |
| --- | --- | --- | --- |
| mesh: direct reduce-scatter, all-gather | 2 | 2 (n - 1) M / n | 2 (n - 1) M |
| ring: reduce-scatter, all-gather | 2 (n - 1) | 2 (n - 1) M / n | 2 (n - 1) M |
| star | 2 | hub (n - 1) M | 2 (n - 1) M |
| hierarchical: sums up the tree, the result down | 2 x depth | children x M + M | 2 (n - 1) M |

The vector is cut at whole elements, so the middle column holds within one element a part.

Sources: Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009,
for the ring; Thakur, Rabenseifner and Gropp, "Optimization of Collective Communication Operations in MPICH",
2005, for the others.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.coordination.topology import MESH_LIMIT, Edge, Graph, Vertex, plan
from flow_nexus_neural.kernels.folding import FLOAT_BYTES
from flow_nexus_neural.vocabulary import Topology

Held = Literal["update", "state"]


@dataclass(frozen=True, slots=True)
class Source:
    """What a member holds, as a term of a sum."""

    member: str
    held: Held
    weight: float


@dataclass(frozen=True, slots=True)
class Part:
    """Elements `start` to `stop` (exclusive) of a state: the sum of the sources over the divisor."""

    start: int
    stop: int
    divisor: float
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Folding:
    """What one member writes in one step, into its state unless something else is said."""

    member: str
    parts: tuple[Part, ...]
    into: Held = "state"

    def bytes_from(self) -> Counter[str]:
        """Payload bytes that it reads from each other member."""
        read: Counter[str] = Counter()
        for part in self.parts:
            for source in part.sources:
                if source.member != self.member:
                    read[source.member] += FLOAT_BYTES * (part.stop - part.start)
        return read


@dataclass(frozen=True)
class Collective:
    """One exchange, step by step; see the module."""

    plane: "Plane"
    steps: tuple[tuple[Folding, ...], ...]

    def bytes_from(self) -> Counter[str]:
        """Payload bytes that are read from each member."""
        total: Counter[str] = Counter()
        for step in self.steps:
            for folding in step:
                total.update(folding.bytes_from())
        return total


@dataclass(frozen=True)
class Plane:
    """The members of an exchange and the edges between them.

    Attributes:
        members: In the topology's canonical order; `engine` first where it is the root.
        workers: Those that need the result.
        edges: Pairs of members that may read each other.
        root: Hub of a star or root of a tree; None for mesh and ring.
        parent: Of every other member of a star or a tree.
    """

    topology: Topology
    members: tuple[str, ...]
    workers: tuple[str, ...]
    edges: tuple[Edge, ...]
    root: str | None
    parent: Mapping[str, str]

    def depth(self, member: str) -> int:
        """Edges between a member and the root."""
        return 0 if member == self.root else 1 + self.depth(self.parent[member])

    def children(self, member: str) -> tuple[str, ...]:
        """Members below one, in canonical order."""
        return tuple(other for other in self.members if self.parent.get(other) == member)

    def by_depth(self) -> list[list[str]]:
        """Members at each depth, the root first."""
        levels: list[list[str]] = []
        for member in self.members:
            depth = self.depth(member)
            levels.extend([] for _ in range(depth + 1 - len(levels)))
            levels[depth].append(member)
        return levels


def plan_plane(topology: Topology, vertices: Sequence[Vertex]) -> Plane | None:
    """Who takes part in the exchange of one network group.

    A mesh and a ring consist of the workers alone. A star has the first parameter server as hub. A hierarchy
    has the first parameter server as root, or the engine where there is none, and those aggregators below
    which there is a worker; without both it is a binary tree of workers.

    Args:
        topology: Of the cluster.
        vertices: The workers of the group that can take part, and the healthy slots of other roles.

    Returns:
        None where links carry nothing: a single worker without a parameter server, a star around the engine,
        in which every edge is one to the engine, or more workers than a mesh may have.
    """
    workers = [vertex for vertex in vertices if vertex.role == "worker"]
    roles = {"star": ("parameter_server",), "hierarchical": ("parameter_server", "aggregator")}
    helpers = [vertex for vertex in vertices if vertex.role in roles.get(topology, ())]
    servers = [vertex for vertex in helpers if vertex.role == "parameter_server"]
    if not workers or (topology == "star" and not servers):
        return None
    if topology == "mesh" and len(workers) > MESH_LIMIT:
        return None
    # Further parameter servers stand by: they would be leaves that neither contribute nor need the result.
    graph = plan(topology, [v for v in (*workers, *helpers) if v not in _all_but_first(servers)])
    plane = _pruned(graph, tuple(v.slot for v in workers))
    return plane if len(plane.members) > 1 else None


def plan_average(plane: Plane, rows: Mapping[str, int], length: int) -> Collective:
    """The row-weighted average of the contributors' updates, in the state of every worker.

    Star and mesh add up the single updates in float64 and round once, in slot order, so their results are
    those of `kernels.averaging.federated_average` bit for bit. In a ring and in a deeper tree partial sums
    travel as float32, and results agree within the rounding of their steps.

    Args:
        plane: Who takes part.
        rows: Rows of each contributor, > 0; other members pass on and receive.
        length: Elements of a state.

    Raises:
        ValueError: If nobody contributes, or a contributor is no worker of the plane.
    """
    if not rows or not rows.keys() <= set(plane.workers) or min(rows.values()) < 1:
        raise ValueError(f"{dict(rows)} are not rows of the workers {plane.workers}")
    steps = {"mesh": _mesh, "ring": _ring, "star": _tree, "hierarchical": _tree}
    made = steps[plane.topology](plane, rows, length)
    return Collective(plane, tuple(step for step in made if step))


Steps = list[tuple[Folding, ...]]


def _mesh(plane: Plane, rows: Mapping[str, int], length: int) -> Steps:
    chunks = _chunks(length, len(plane.members))
    total = float(sum(rows.values()))
    terms = tuple(Source(name, "update", rows[name]) for name in plane.members if name in rows)
    scatter, gather = [], []
    for member, own in zip(plane.members, chunks, strict=True):
        scatter.append(_folding(member, [Part(*own, total, terms)]))
        gather.append(
            _folding(
                member,
                [
                    _copied(other, chunk)
                    for other, chunk in zip(plane.members, chunks, strict=True)
                    if other != member
                ],
            )
        )
    return [_without_empty(scatter), _without_empty(gather)]


def _ring(plane: Plane, rows: Mapping[str, int], length: int) -> Steps:
    members, n = plane.members, len(plane.members)
    chunks = _chunks(length, n)
    share = {name: count / sum(rows.values()) for name, count in rows.items()}
    # What each member holds of each chunk so far: its own update counts only once it was added.
    begun: set[tuple[str, int]] = set()
    steps: Steps = []
    for step in range(n - 1):
        foldings = []
        added: set[tuple[str, int]] = set()
        for i, member in enumerate(members):
            before, c = members[i - 1], (i - 1 - step) % n
            sources = _so_far(before, c, share, begun, first=step == 0)
            sources += [Source(member, "update", share[member])] if member in share else []
            if sources:
                added.add((member, c))
                foldings.append(_folding(member, [Part(*chunks[c], 1.0, tuple(sources))]))
        begun = added
        steps.append(_without_empty(foldings))
    for step in range(n - 1):
        steps.append(
            _without_empty(
                [
                    _folding(member, [_copied(members[i - 1], chunks[(i - step) % n])])
                    for i, member in enumerate(members)
                ]
            )
        )
    return steps


def _so_far(
    member: str, chunk: int, share: Mapping[str, float], begun: set[tuple[str, int]], *, first: bool
) -> list[Source]:
    """What a member passes on of a chunk: in the first step its own update, then the sum up to it."""
    if first:
        return [Source(member, "update", share[member])] if member in share else []
    return [Source(member, "state", 1.0)] if (member, chunk) in begun else []


def _tree(plane: Plane, rows: Mapping[str, int], length: int) -> Steps:
    whole, levels = (0, length), plane.by_depth()
    flat = len(levels) == 2
    total = sum(rows.values())
    # One level: the single updates meet at the root, and integer weights round once.
    weight = {name: float(count) if flat else count / total for name, count in rows.items()}
    begun: set[str] = set()
    steps: Steps = []
    for level in reversed(levels[:-1]):
        foldings = []
        for member in level:
            children = plane.children(member)
            if not children and member != plane.root:
                continue  # a leaf's update is read as it is
            below = [_term(child, weight, begun) for child in (member, *children)]
            sources = [term for term in below if term is not None]
            if sources:
                begun.add(member)
                divisor = float(total) if flat else 1.0
                foldings.append(_folding(member, [Part(*whole, divisor, tuple(sources))]))
        steps.append(_without_empty(foldings))
    for level in levels[1:]:
        down = [_folding(member, [_copied(plane.parent[member], whole)]) for member in level]
        steps.append(_without_empty(down))
    return steps


def _term(member: str, weight: Mapping[str, float], begun: set[str]) -> Source | None:
    """What a member adds to the sum of its parent, or to its own."""
    if member in begun:
        return Source(member, "state", 1.0)
    if member in weight:
        return Source(member, "update", weight[member])
    return None


def _pruned(graph: Graph, workers: tuple[str, ...]) -> Plane:
    """The plane of a graph without those leaves that are no workers."""
    parent: dict[str, str] = {}
    if graph.hub is not None:
        parent = _parents(graph, graph.hub)
        needed = {graph.hub}
        for worker in workers:
            while worker not in needed:
                needed.add(worker)
                worker = parent[worker]  # noqa: PLW2901 - the way up to the root
        parent = {name: above for name, above in parent.items() if name in needed}
        members = tuple(name for name in graph.vertices if name in needed)
    else:
        members = graph.vertices
    return Plane(
        topology=graph.topology,
        members=members,
        workers=tuple(name for name in members if name in workers),
        edges=tuple(edge for edge in graph.edges if set(edge) <= set(members)),
        root=graph.hub,
        parent=parent,
    )


def _parents(graph: Graph, root: str) -> dict[str, str]:
    parent: dict[str, str] = {}
    reached = [root]
    for member in reached:  # grows while it is read: breadth first
        for other in graph.neighbours(member):
            if other != root and other not in parent:
                parent[other] = member
                reached.append(other)
    return parent


def _all_but_first(vertices: Sequence[Vertex]) -> list[Vertex]:
    return sorted(vertices, key=lambda vertex: slot_order(vertex.slot))[1:]


def _chunks(length: int, n: int) -> list[tuple[int, int]]:
    """Where each of n nearly equal parts of a vector begins and ends."""
    ends = [k * length // n for k in range(n + 1)]
    return list(pairwise(ends))


def _copied(member: str, chunk: tuple[int, int]) -> Part:
    return Part(*chunk, 1.0, (Source(member, "state", 1.0),))


def _folding(member: str, parts: Sequence[Part]) -> Folding:
    return Folding(member, tuple(part for part in parts if part.stop > part.start))


def _without_empty(foldings: Sequence[Folding]) -> tuple[Folding, ...]:
    return tuple(folding for folding in foldings if folding.parts)
