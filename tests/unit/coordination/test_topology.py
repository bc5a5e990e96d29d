import math

import numpy as np
import pytest

from flow_nexus_neural.coordination.topology import (
    Vertex,
    mixing_matrix,
    plan,
    spectral_gap,
)
from flow_nexus_neural.errors import InvalidTopology


def workers(n, group=""):
    return [Vertex(f"worker-{i}", "worker", group) for i in range(n)]


TRADING = [
    Vertex("parameter_server-0", "parameter_server"),
    Vertex("parameter_server-1", "parameter_server"),
    Vertex("aggregator-0", "aggregator"),
    Vertex("aggregator-1", "aggregator"),
    Vertex("validator-0", "validator"),
    *[Vertex(f"worker-{i}", "worker", "BTC") for i in range(3)],
    *[Vertex(f"worker-{i}", "worker", "ETH") for i in range(3, 6)],
]


def test_a_mesh_links_all_pairs_in_canonical_order():
    graph = plan("mesh", [Vertex("worker-0", "worker"), Vertex("validator-0", "validator")])
    assert graph.edges == (("validator-0", "worker-0"),)
    assert len(plan("mesh", workers(11)).edges) == 55


def test_a_ring_is_a_cycle_in_canonical_order():
    graph = plan("ring", workers(12))
    assert len(graph.edges) == 12
    assert ("worker-9", "worker-10") in graph.edges
    assert ("worker-0", "worker-11") in graph.edges
    assert all(len(graph.neighbours(f"worker-{i}")) == 2 for i in range(12))


def test_a_ring_of_two_has_one_link_and_of_one_has_none():
    assert plan("ring", workers(2)).edges == (("worker-0", "worker-1"),)
    assert plan("ring", workers(1)).edges == ()


def test_a_star_hangs_on_the_first_parameter_server():
    graph = plan("star", TRADING)
    assert graph.hub == "parameter_server-0"
    assert len(graph.edges) == 10
    assert all("parameter_server-0" in edge for edge in graph.edges)
    assert graph.diameter == 2


def test_a_star_without_a_parameter_server_hangs_on_the_engine():
    graph = plan("star", workers(3))
    assert graph.hub == "engine"
    assert graph.vertices == ("engine", "worker-0", "worker-1", "worker-2")
    assert graph.edges == tuple(("engine", f"worker-{i}") for i in range(3))


def test_a_hierarchy_gives_each_aggregator_one_capability_group():
    graph = plan("hierarchical", TRADING)
    assert graph.hub == "parameter_server-0"
    assert graph.edges == (
        ("parameter_server-0", "parameter_server-1"),
        ("parameter_server-0", "aggregator-0"),
        ("parameter_server-0", "aggregator-1"),
        ("parameter_server-0", "validator-0"),
        ("aggregator-0", "worker-0"),
        ("aggregator-0", "worker-1"),
        ("aggregator-0", "worker-2"),
        ("aggregator-1", "worker-3"),
        ("aggregator-1", "worker-4"),
        ("aggregator-1", "worker-5"),
    )
    assert graph.diameter == 4


def test_workers_of_no_or_a_surplus_group_go_to_the_lightest_aggregator():
    members = [Vertex("aggregator-0", "aggregator"), Vertex("aggregator-1", "aggregator")]
    members += [Vertex("worker-0", "worker", "BTC"), Vertex("worker-1", "worker", "BTC")]
    members += [Vertex("worker-2", "worker", "ETH"), Vertex("worker-3", "worker", "SOL")]
    members += [Vertex("worker-4", "worker"), Vertex("worker-5", "worker")]
    members.append(Vertex("parameter_server-0", "parameter_server"))
    graph = plan("hierarchical", members)
    assert graph.neighbours("aggregator-0")[1:] == ("worker-0", "worker-1", "worker-4")
    assert graph.neighbours("aggregator-1")[1:] == ("worker-2", "worker-3", "worker-5")


def test_a_hierarchy_without_aggregators_hangs_workers_on_the_root():
    graph = plan("hierarchical", [Vertex("parameter_server-0", "parameter_server"), *workers(3)])
    assert graph.edges == tuple(("parameter_server-0", f"worker-{i}") for i in range(3))


def test_a_hierarchy_without_a_parameter_server_has_the_engine_as_its_root():
    graph = plan("hierarchical", [Vertex("aggregator-0", "aggregator"), *workers(2)])
    assert graph.hub == "engine"
    assert graph.edges[0] == ("engine", "aggregator-0")
    assert graph.neighbours("aggregator-0") == ("engine", "worker-0", "worker-1")


def test_a_hierarchy_of_workers_alone_is_a_binary_tree():
    graph = plan("hierarchical", [*workers(5), Vertex("validator-0", "validator")])
    order = ("validator-0", "worker-0", "worker-1", "worker-2", "worker-3", "worker-4")
    assert graph.vertices == order
    assert graph.edges == (
        (order[0], order[1]),
        (order[0], order[2]),
        (order[1], order[3]),
        (order[1], order[4]),
        (order[2], order[5]),
    )


def test_the_order_of_the_arguments_changes_nothing():
    for topology in ("mesh", "ring", "star", "hierarchical"):
        forwards, backwards = plan(topology, TRADING), plan(topology, TRADING[::-1])
        assert forwards.edges == backwards.edges
        assert forwards.spectral_gap == backwards.spectral_gap


@pytest.mark.parametrize("n", [3, 6, 11, 32])
def test_spectral_gaps_equal_their_formulas(n):
    assert plan("mesh", workers(n)).spectral_gap == pytest.approx(1.0)
    ring = 2 / 3 * (1 - math.cos(2 * math.pi / n))
    assert plan("ring", workers(n)).spectral_gap == pytest.approx(ring, abs=1e-9)
    star = [Vertex("parameter_server-0", "parameter_server"), *workers(n - 1)]
    assert plan("star", star).spectral_gap == pytest.approx(1 / n, abs=1e-9)


@pytest.mark.parametrize(("n", "gap"), [(6, 0.092), (11, 0.042), (32, 0.010)])
def test_the_gap_of_a_binary_tree_is_the_measured_one(n, gap):
    assert plan("hierarchical", workers(n)).spectral_gap == pytest.approx(gap, abs=5e-4)


@pytest.mark.parametrize("topology", ["mesh", "ring", "star", "hierarchical"])
def test_one_node_cannot_disagree_with_itself(topology):
    graph = plan(topology, [Vertex("parameter_server-0", "parameter_server")])
    assert (graph.edges, graph.connected, graph.diameter) == ((), True, 0)
    assert graph.spectral_gap is None


def test_mixing_keeps_the_mean_and_shrinks_disagreement_by_the_gap():
    graph = plan("hierarchical", TRADING)
    values = np.random.default_rng(0).normal(size=len(graph.vertices))
    distance = np.linalg.norm(values - values.mean())
    mixed = values.copy()
    for step in range(1, 40):
        mixed = graph.mixing @ mixed
        assert mixed.mean() == pytest.approx(values.mean())
        bound = distance * (1 - graph.spectral_gap) ** step
        assert np.linalg.norm(mixed - mixed.mean()) <= bound * (1 + 1e-9)


def test_row_stochastic_weights_alone_would_move_the_mean():
    """The control of the test above: averaging over neighbours without the degree correction."""
    graph = plan("star", [Vertex("parameter_server-0", "parameter_server"), *workers(4)])
    naive = (graph.mixing > 0) / (graph.mixing > 0).sum(axis=1, keepdims=True)
    values = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    assert (naive @ values).mean() != pytest.approx(values.mean())
    assert (graph.mixing @ values).mean() == pytest.approx(values.mean())


def test_a_graph_in_two_parts_has_no_gap():
    assert spectral_gap(mixing_matrix(4, [(0, 1), (2, 3)])) == 0.0


def test_nobody_cannot_be_linked():
    with pytest.raises(InvalidTopology) as refusal:
        plan("mesh", [])
    assert "neural_node_deploy" in refusal.value.hint


def test_a_mesh_has_a_limit_and_names_the_alternative():
    assert len(plan("mesh", workers(32)).edges) == 496
    with pytest.raises(InvalidTopology) as refusal:
        plan("mesh", workers(33))
    assert "star or hierarchical" in refusal.value.hint
    assert len(plan("star", workers(33)).edges) == 33


def test_a_slot_cannot_be_linked_twice():
    with pytest.raises(InvalidTopology, match="repeat"):
        plan("ring", [*workers(2), *workers(1)])


def test_a_ring_is_told_to_be_long_and_to_spare_its_busiest_node():
    (ring,) = plan("ring", workers(32)).advice
    assert "2 (n - 1) steps" in ring
    assert "busiest" in ring
    assert plan("ring", workers(2)).advice == ()


def test_a_graph_without_some_of_its_edges_is_measured_anew():
    ring = plan("ring", workers(4))
    line = ring.reduced_to(ring.edges[1:])
    assert (ring.diameter, line.diameter) == (2, 3)
    assert line.edges == ring.edges[1:]
    assert line.vertices == ring.vertices
    assert line.spectral_gap < ring.spectral_gap
    apart = ring.reduced_to([("worker-0", "worker-1"), ("worker-0", "worker-2")])
    assert (len(apart.edges), apart.connected, apart.diameter) == (1, False, None)
    assert ring.reduced_to(ring.edges).mixing.tolist() == ring.mixing.tolist()
