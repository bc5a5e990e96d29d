"""Where the vertices of a graph are drawn: in rows by distance from the hub, or around a circle."""

import math

from flow_nexus_neural.artifacts.plots.figure import Graph

Place = tuple[float, float]


def places(graph: Graph) -> dict[str, Place]:
    """A place from -1 to 1 for every vertex.

    Without a hub all are on a circle in their order, as in a ring; where every other vertex is a neighbour of
    the hub it is in the middle of them, as in a star; else there is a row for each distance from the hub.
    """
    names = [vertex.name for vertex in graph.vertices]
    distances = _distances(graph, names)
    if distances is None:
        return _circle(names)
    farthest = max(distances.values())
    if farthest <= 1:
        others = [name for name in names if name != graph.hub]
        return {str(graph.hub): (0.0, 0.0), **_circle(others)}
    found: dict[str, Place] = {}
    for distance in range(farthest + 1):
        row = [name for name in names if distances[name] == distance]
        y = 1 - 2 * distance / farthest
        found |= {name: (_across(index, len(row)), y) for index, name in enumerate(row)}
    return found


def _across(index: int, n: int) -> float:
    return -1 + 2 * (index + 0.5) / n


def _circle(names: list[str]) -> dict[str, Place]:
    angles = [math.pi / 2 - 2 * math.pi * index / max(1, len(names)) for index in range(len(names))]
    return {
        name: (math.cos(angle), math.sin(angle)) for name, angle in zip(names, angles, strict=True)
    }


def _distances(graph: Graph, names: list[str]) -> dict[str, int] | None:
    """Links from the hub to each vertex, one more than the farthest for those without a way; None: no hub."""
    if graph.hub is None or graph.hub not in names:
        return None
    neighbours: dict[str, list[str]] = {name: [] for name in names}
    for link in graph.links:
        if link.one in neighbours and link.other in neighbours:
            neighbours[link.one].append(link.other)
            neighbours[link.other].append(link.one)
    found, waiting = {graph.hub: 0}, [graph.hub]
    for here in waiting:  # grows while it is gone through: breadth first
        for name in neighbours[here]:
            if name not in found:
                found[name] = found[here] + 1
                waiting.append(name)
    beyond = max(found.values()) + 1
    return {name: found.get(name, beyond) for name in names}
