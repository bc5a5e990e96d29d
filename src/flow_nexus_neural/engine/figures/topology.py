"""The nodes of a cluster by role, and the links between them as they work."""

from flow_nexus_neural.artifacts.plots.figure import Figure, Graph, Link, Vertex
from flow_nexus_neural.engine.figures.seen import Copied, Seen
from flow_nexus_neural.errors import NoWorkers

ENGINE = "engine"
DEAD = frozenset({"failed", "failed_permanently", "quarantined", "stopped", "retired"})
UNKNOWN = frozenset({"unknown", "recovering"})


def topology(seen: Seen) -> Figure:
    """Every node with its role and state, and every link with its latency or that it is broken.

    Of a copy of a state directory they are the links that were recorded last, of which no more is known.

    Raises:
        NoWorkers: There is no node.
    """
    status, copied = seen.status, seen.copied
    if not status.nodes:
        raise NoWorkers(
            f"cluster {status.cluster_id} has no node to draw",
            hint="deploy nodes with neural_node_deploy",
        )
    vertices = [
        Vertex(
            node.slot,
            node.role,
            word,
            None if word in UNKNOWN else word not in DEAD,
        )
        for node in status.nodes
        for word in [node.status if copied is None else copied.status(node.status)]
    ]
    links = _links(seen)
    if any(ENGINE in (link.one, link.other) for link in links):
        works = None if copied is not None else True
        vertices.insert(0, Vertex(ENGINE, ENGINE, "the server itself", working=works))
    names = [vertex.name for vertex in vertices]
    recorded = seen.recorded_links
    shape = status.topology if recorded is None else recorded.topology
    graph = Graph(tuple(vertices), tuple(links), _hub(shape, names, links))
    notes = _notes_of_copy(seen, copied) if copied is not None else _notes(seen, links)
    return Figure(f"{shape} topology of {seen.subject}", (graph,), notes)


def _links(seen: Seen) -> list[Link]:
    if seen.copied is None:
        return [
            Link(link.from_slot, link.to_slot, link.latency_ms, link.fault)
            for link in seen.status.links or ()
        ]
    recorded = seen.recorded_links
    edges = recorded.edges if recorded is not None else ()
    present = {ENGINE, *(node.slot for node in seen.status.nodes)}
    return [Link(one, other, working=None) for one, other in edges if {one, other} <= present]


def _notes(seen: Seen, links: list[Link]) -> tuple[str, str]:
    status = seen.status
    active = f"{status.active_nodes} of {status.total_nodes} nodes are active."
    if status.links is None:
        told = "No node is linked: neural_cluster_connect links them, again after each start of the server."
        return active, told
    broken = sum(link.fault is not None for link in links)
    works = len(links) - broken
    working = "1 link works" if works == 1 else f"{works} links work"
    return active, f"{working}, {broken} {'does' if broken == 1 else 'do'} not."


def _notes_of_copy(seen: Seen, copied: Copied) -> tuple[str, str]:
    """What was recorded, and who knows the rest."""
    recorded, server = seen.recorded_links, copied.server
    told = "Nodes of this cluster were never linked."
    if recorded is not None:
        told = f"Links as they were recorded last, at {recorded.at}."
    if server is None:
        return told, "No server runs: no node is up, and no latency is measured."
    return told, (
        f"How nodes are, whether links work and their latency only the server knows (process {server}):"
        " neural_cluster_plot draws it."
    )


def _hub(shape: str, names: list[str], links: list[Link]) -> str | None:
    """The vertex with the most links, of shapes that have a centre."""
    if shape not in ("star", "hierarchical") or not links:
        return None
    degrees = {name: sum(name in (link.one, link.other) for link in links) for name in names}
    servers = [name for name in names if name.startswith("parameter_server")]
    if shape == "hierarchical" and servers:
        return servers[0]
    return max(names, key=lambda name: degrees[name])
