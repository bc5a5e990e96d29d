"""Plans the links between nodes for each topology, and measures the resulting graph."""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.membership import ROLE_ORDER, slot_order
from flow_nexus_neural.errors import InvalidTopology
from flow_nexus_neural.vocabulary import Role, Topology

Edge = tuple[str, str]

ENGINE = "engine"
"""Name of the engine's vertex, which is the hub if there is no parameter server."""

MESH_LIMIT = 32


@dataclass(frozen=True, slots=True)
class Vertex:
    """A healthy slot.

    Attributes:
        group: Capability group of a worker, for example its symbol; empty for none.
    """

    slot: str
    role: Role
    group: str = ""


@dataclass(frozen=True)
class Graph:
    """An undirected graph over the healthy slots; what is measured of it is computed when it is asked for.

    Attributes:
        vertices: In canonical order: `engine` first if it is a hub, then by role and number.
        edges: Pairs, each in vertex order, sorted.
        hub: Centre of a star or root of a hierarchy; `engine` or a slot; None for mesh and ring.
    """

    topology: Topology
    vertices: tuple[str, ...]
    edges: tuple[Edge, ...]
    hub: str | None

    @property
    def connected(self) -> bool:
        """Whether there is a path between any two vertices."""
        return self.diameter is not None

    @cached_property
    def diameter(self) -> int | None:
        """Longest shortest path in edges; 0 for one vertex, None if not connected."""
        return _diameter(len(self.vertices), self._pairs)

    @cached_property
    def mixing(self) -> NDArray[np.float64]:
        """[n, n] float64, symmetric and doubly stochastic, in vertex order; see `mixing_matrix`."""
        return mixing_matrix(len(self.vertices), self._pairs)

    @cached_property
    def spectral_gap(self) -> float | None:
        """1 - |second eigenvalue| of `mixing`; None for one vertex."""
        return spectral_gap(self.mixing)

    @property
    def advice(self) -> tuple[str, ...]:
        """Remarks for the caller about this topology at this size."""
        return _advice(self.topology, len(self.vertices), self.spectral_gap)

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        """The edges as indices of vertices."""
        place = {name: index for index, name in enumerate(self.vertices)}
        return [(place[first], place[second]) for first, second in self.edges]

    def neighbours(self, slot: str) -> tuple[str, ...]:
        """Slots linked to this one, in vertex order."""
        return tuple(
            second if first == slot else first
            for first, second in self.edges
            if slot in (first, second)
        )

    def reduced_to(self, edges: Collection[Edge]) -> "Graph":
        """The same vertices with only the edges that are also in `edges`."""
        return replace(self, edges=tuple(edge for edge in self.edges if edge in edges))


def plan(topology: Topology, vertices: Sequence[Vertex]) -> Graph:
    """Plan the links of healthy slots in a topology. The same slots always give the same edges.

    * mesh: all pairs.
    * ring: a cycle in canonical order; two slots have one edge.
    * star: all slots to the first parameter server, else to the engine.
    * hierarchical: the root is the first parameter server, else the engine. Further parameter servers,
      aggregators and validators are its children. Each aggregator gets the workers of one capability group,
      in the order of names; every other worker goes to the aggregator with the fewest children. Without
      aggregators the workers are children of the root. Without aggregators and parameter servers it is a
      binary tree in canonical order.

    Args:
        topology: One of the four above.
        vertices: Healthy slots in any order.

    Raises:
        InvalidTopology: If there is no healthy slot, a slot repeats, or a mesh has more than 32.
    """
    if not vertices:
        raise InvalidTopology(
            "there is no healthy node to link",
            hint="start one with neural_node_deploy, then connect again",
        )
    ordered = sorted(vertices, key=_canonical)
    slots = [vertex.slot for vertex in ordered]
    if len(set(slots)) != len(slots):
        raise InvalidTopology(f"slots repeat: {', '.join(slots)}")
    if topology == "mesh" and len(slots) > MESH_LIMIT:
        raise InvalidTopology(
            f"a mesh of {len(slots)} nodes would need {len(slots) * (len(slots) - 1) // 2} links",
            hint=f"a mesh links at most {MESH_LIMIT} nodes; connect as star or hierarchical",
            details={"nodes": len(slots), "limit": MESH_LIMIT},
        )
    links, hub = _SHAPES[topology](ordered)
    names = [ENGINE, *slots] if hub == ENGINE else slots
    return _graph(topology, names, links, hub)


def plan_peers(topology: Topology, workers: Sequence[Vertex]) -> Graph:
    """Plan the links of workers among themselves: like `plan`, without the engine and other roles.

    The hub of a star is the first worker, and a hierarchy is a binary tree. A mesh has no limit here: who
    joins a training must not end it.

    Args:
        topology: One of the four.
        workers: At least one, in any order.
    """
    ordered = sorted(workers, key=_canonical)
    slots = [vertex.slot for vertex in ordered]
    if topology == "star":
        return _graph(topology, slots, [(slots[0], other) for other in slots[1:]], slots[0])
    links, hub = _SHAPES[topology](ordered)
    return _graph(topology, slots, links, hub)


def mixing_matrix(n: int, edges: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Metropolis-Hastings weights of an undirected graph.

    W_ij = 1 / (1 + max(deg_i, deg_j)) on edges and W_ii = 1 - sum: symmetric and doubly stochastic, so
    repeated mixing keeps the mean and, on a connected graph, converges to it.

    Args:
        n: Number of vertices.
        edges: Pairs of indices, without self-loops and duplicates.

    Returns:
        [n, n] float64.

    Source: Xiao and Boyd, "Fast linear iterations for distributed averaging", 2004, section 4.2.
    """
    degree = [0] * n
    for first, second in edges:
        degree[first] += 1
        degree[second] += 1
    mixing = np.zeros((n, n))
    for first, second in edges:
        mixing[first, second] = mixing[second, first] = 1 / (1 + max(degree[first], degree[second]))
    mixing[np.diag_indices(n)] = 1 - mixing.sum(axis=1)
    return mixing


def spectral_gap(mixing: NDArray[np.float64]) -> float | None:
    """1 - |second largest eigenvalue|: one mixing step shrinks disagreement by (1 - gap).

    None for one vertex, which cannot disagree.
    """
    if mixing.shape[0] < 2:
        return None
    magnitudes = np.sort(np.abs(np.linalg.eigvalsh(mixing)))
    # Rounded, because eigenvalues have rounding errors of about 1e-16 that differ between machines.
    return min(1.0, max(0.0, round(1.0 - float(magnitudes[-2]), 12)))


def _canonical(vertex: Vertex) -> tuple[int, tuple[int, int, str]]:
    return ROLE_ORDER.index(vertex.role), slot_order(vertex.slot)


def _mesh(ordered: Sequence[Vertex]) -> tuple[list[Edge], str | None]:
    return list(combinations([vertex.slot for vertex in ordered], 2)), None


def _ring(ordered: Sequence[Vertex]) -> tuple[list[Edge], str | None]:
    slots = [vertex.slot for vertex in ordered]
    links = list(pairwise(slots))
    if len(slots) > 2:
        links.append((slots[0], slots[-1]))
    return links, None


def _star(ordered: Sequence[Vertex]) -> tuple[list[Edge], str | None]:
    hub = _first(ordered, "parameter_server") or ENGINE
    return [(hub, vertex.slot) for vertex in ordered if vertex.slot != hub], hub


def _hierarchical(ordered: Sequence[Vertex]) -> tuple[list[Edge], str | None]:
    aggregators = [vertex.slot for vertex in ordered if vertex.role == "aggregator"]
    server = _first(ordered, "parameter_server")
    if server is None and not aggregators:
        return _binary_tree(ordered)
    root = server or ENGINE
    parents = _parents([v for v in ordered if v.role == "worker"], aggregators)
    links = [
        (parents.get(vertex.slot, root), vertex.slot) for vertex in ordered if vertex.slot != root
    ]
    return links, root


def _binary_tree(ordered: Sequence[Vertex]) -> tuple[list[Edge], str | None]:
    slots = [vertex.slot for vertex in ordered]
    return [(slots[(child - 1) // 2], slots[child]) for child in range(1, len(slots))], slots[0]


def _parents(workers: Sequence[Vertex], aggregators: Sequence[str]) -> dict[str, str]:
    """Aggregator of each worker; empty without aggregators."""
    if not aggregators:
        return {}
    groups = sorted({worker.group for worker in workers if worker.group})
    # With more groups than aggregators, the workers of the last groups are spread like those without one.
    aggregator_of = dict(zip(groups, aggregators, strict=False))
    parents = {w.slot: aggregator_of[w.group] for w in workers if w.group in aggregator_of}
    load = dict.fromkeys(aggregators, 0)
    for parent in parents.values():
        load[parent] += 1
    for worker in workers:
        if worker.slot not in parents:
            lightest = min(aggregators, key=lambda name: load[name])  # the first among equals
            parents[worker.slot] = lightest
            load[lightest] += 1
    return parents


def _first(ordered: Sequence[Vertex], role: Role) -> str | None:
    return next((vertex.slot for vertex in ordered if vertex.role == role), None)


def _graph(
    topology: Topology, names: Sequence[str], links: Sequence[Edge], hub: str | None
) -> Graph:
    place = {name: index for index, name in enumerate(names)}
    pairs = sorted({(min(a, b), max(a, b)) for a, b in ((place[x], place[y]) for x, y in links)})
    edges = tuple((names[first], names[second]) for first, second in pairs)
    return Graph(topology, tuple(names), edges, hub)


def _diameter(n: int, pairs: Sequence[tuple[int, int]]) -> int | None:
    neighbours: list[list[int]] = [[] for _ in range(n)]
    for first, second in pairs:
        neighbours[first].append(second)
        neighbours[second].append(first)
    longest = 0
    for source in range(n):
        distance = {source: 0}
        queue = deque([source])
        while queue:
            vertex = queue.popleft()
            for other in neighbours[vertex]:
                if other not in distance:
                    distance[other] = distance[vertex] + 1
                    queue.append(other)
        if len(distance) < n:
            return None
        longest = max(longest, *distance.values())
    return longest


def _advice(topology: Topology, n: int, gap: float | None) -> tuple[str, ...]:
    advice = []
    if topology == "ring" and n > 2:
        advice.append(
            "an exchange of weights around a ring of n workers takes 2 (n - 1) steps, where a star and a mesh"
            " take 2; it spares the busiest node, which reads and hands out 2 (n - 1) / n of the weights"
        )
    if topology == "mesh" and n > 11:
        advice.append(f"a mesh of {n} nodes holds {n * (n - 1) // 2} links; a star holds {n - 1}")
    if topology in {"star", "hierarchical"} and gap is not None and n > 3:
        advice.append(
            f"mixing between neighbours alone would shrink disagreement by {gap:.1%} per step here;"
            " a mesh mixes in one step"
        )
    return tuple(advice)


_SHAPES: dict[Topology, Callable[[Sequence[Vertex]], tuple[list[Edge], str | None]]] = {
    "mesh": _mesh,
    "ring": _ring,
    "star": _star,
    "hierarchical": _hierarchical,
}
