"""The nodes of a cluster by role, and the links between them as they work."""

from flow_nexus_neural.artifacts.plots.figure import Figure, Graph, Link, Vertex
from flow_nexus_neural.engine.figures.seen import Seen
from flow_nexus_neural.errors import NoWorkers

ENGINE = "engine"
DEAD = frozenset({"failed", "failed_permanently", "quarantined", "stopped", "retired"})
UNKNOWN = frozenset({"unknown", "recovering"})


def topology(seen: Seen) -> Figure:
    """Every node with its role and state, and every link with its latency or that it is broken.

    Raises:
        NoWorkers: There is no node.
    """
    status = seen.status
    if not status.nodes:
        raise NoWorkers(
            f"cluster {status.cluster_id} has no node to draw",
            hint="deploy nodes with neural_node_deploy",
        )
    vertices = [
        Vertex(
            node.slot,
            node.role,
            node.status,
            None if node.status in UNKNOWN else node.status not in DEAD,
        )
        for node in status.nodes
    ]
    links = [
        Link(link.from_slot, link.to_slot, link.latency_ms, link.fault)
        for link in status.links or ()
    ]
    if any(ENGINE in (link.one, link.other) for link in links):
        vertices.insert(0, Vertex(ENGINE, ENGINE, "the server itself", working=True))
    names = [vertex.name for vertex in vertices]
    graph = Graph(tuple(vertices), tuple(links), _hub(status.topology, names, links))
    broken = sum(link.fault is not None for link in links)
    notes = [f"{status.active_nodes} of {status.total_nodes} nodes are active."]
    if status.links is None:
        notes.append(
            "Links are known to a running server after neural_cluster_connect; none are drawn."
        )
    else:
        works = len(links) - broken
        working = "1 link works" if works == 1 else f"{works} links work"
        notes.append(f"{working}, {broken} {'does' if broken == 1 else 'do'} not.")
    return Figure(f"{status.topology} topology of {seen.subject}", (graph,), tuple(notes))


def _hub(shape: str, names: list[str], links: list[Link]) -> str | None:
    """The vertex with the most links, of shapes that have a centre."""
    if shape not in ("star", "hierarchical") or not links:
        return None
    degrees = {name: sum(name in (link.one, link.other) for link in links) for name in names}
    servers = [name for name in names if name.startswith("parameter_server")]
    if shape == "hierarchical" and servers:
        return servers[0]
    return max(names, key=lambda name: degrees[name])
