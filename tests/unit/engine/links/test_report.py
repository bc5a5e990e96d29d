"""What a connect reports: only links that work, and why others do not."""

from types import SimpleNamespace

import pytest

from flow_nexus_neural.engine.links.report import (
    MAX_FAULTS_TOLD,
    Applied,
    connect_report,
    link_lines,
    not_performed,
    planned_graph,
)
from flow_nexus_neural.errors import InvalidTopology, NoWorkers
from tests.unit.engine.building import cluster_state, live, slot

NOTHING = Applied("star", changed=True, aggregation=not_performed("not_trained"), moved_shards=0)


def cluster_of(n, *, broken=()):
    cluster = live(cluster_state())
    for number in range(n):
        cluster.slots.add(slot(f"worker-{number}", state="healthy", handle=object()))
    cluster.context.runtime = SimpleNamespace(capabilities=SimpleNamespace(peer_views=True))
    graph = planned_graph(cluster, "mesh") if n else None
    works = [edge for edge in graph.edges if edge not in broken] if graph else []
    cluster.wiring = SimpleNamespace(
        working=lambda: works,
        latency_ms=lambda edge: 0.5,
        faults=lambda: dict.fromkeys(broken, "it was cut"),
    )
    return cluster


def connected(cluster):
    graph = planned_graph(cluster, "mesh")
    cluster.state.link("mesh", graph, tuple(of.name for of in cluster.slots))
    return connect_report(cluster, "mesh", NOTHING)


def test_a_graph_needs_a_healthy_node_and_a_topology_that_can_hold_them():
    with pytest.raises(NoWorkers) as refused:
        planned_graph(cluster_of(0), "ring")
    assert "neural_node_deploy" in refused.value.hint
    cluster = cluster_of(1)
    for number in range(1, 34):
        cluster.slots.add(slot(f"worker-{number}", state="healthy", handle=object()))
    with pytest.raises(InvalidTopology):
        planned_graph(cluster, "mesh")


def test_every_link_has_a_line_also_one_that_does_not_work_and_there_are_none_before_a_connect():
    broken = ("worker-0", "worker-1")
    cluster = cluster_of(3, broken=[broken])
    assert link_lines(cluster) is None
    connected(cluster)
    lines = {(line.from_slot, line.to_slot): line for line in link_lines(cluster)}
    assert len(lines) == 3
    assert (lines[broken].latency_ms, lines[broken].fault) == (None, "it was cut")
    others = [line for pair, line in lines.items() if pair != broken]
    assert {(line.latency_ms, line.fault) for line in others} == {(0.5, None)}


def test_only_links_that_work_are_counted_drawn_and_measured():
    broken = ("worker-0", "worker-1")
    report = connected(cluster_of(3, broken=[broken]))
    assert report.connections == 2
    assert broken not in [(edge.from_slot, edge.to_slot) for edge in report.edges]
    assert {edge.latency_ms for edge in report.edges} == {0.5}
    assert report.diameter == 2
    assert "the link worker-0 - worker-1 does not work: it was cut" in report.warnings


def test_of_many_broken_links_some_are_named_and_the_others_counted():
    cluster = cluster_of(6)
    edges = planned_graph(cluster, "mesh").edges
    report = connected(cluster_of(6, broken=edges))
    told = [warning for warning in report.warnings if "it was cut" in warning]
    assert len(told) == MAX_FAULTS_TOLD
    assert report.warnings[-1] == f"{len(edges) - MAX_FAULTS_TOLD} more links do not work"


def test_a_plan_that_waits_has_edges_without_times_and_says_that_it_waits():
    cluster = cluster_of(3)
    graph = planned_graph(cluster, "ring")
    queued = Applied("star", changed=True, aggregation=not_performed("queued"), moved_shards=0)
    report = connect_report(cluster, "ring", queued, planned=graph)
    assert (report.status, report.pending, report.applied) == ("pending", True, "next_round")
    assert [edge.latency_ms for edge in report.edges] == [None] * 3
    assert report.aggregation.reason == "queued"
    assert report.warnings == ["the change waits for the end of the running round"]
