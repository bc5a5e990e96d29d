import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.coordination.membership import ROLE_ORDER
from flow_nexus_neural.coordination.topology import Vertex, plan

lean = settings(max_examples=150, derandomize=True, deadline=None)

TOPOLOGIES = st.sampled_from(["mesh", "ring", "star", "hierarchical"])


@st.composite
def clusters(draw):
    members = draw(
        st.lists(
            st.tuples(st.sampled_from(ROLE_ORDER), st.sampled_from(["", "BTC", "ETH", "SOL"])),
            min_size=1,
            max_size=16,
        )
    )
    return [Vertex(f"{role}-{i}", role, group) for i, (role, group) in enumerate(members)]


@lean
@given(TOPOLOGIES, clusters())
def test_every_graph_is_connected_simple_and_covers_every_slot(topology, vertices):
    graph = plan(topology, vertices)
    assert graph.connected
    assert {v.slot for v in vertices} == set(graph.vertices) - {"engine"}
    assert ("engine" in graph.vertices) == (graph.hub == "engine")
    assert len(set(graph.edges)) == len(graph.edges)
    place = {slot: index for index, slot in enumerate(graph.vertices)}
    assert all(place[first] < place[second] for first, second in graph.edges)
    n = len(graph.vertices)
    links = {"mesh": n * (n - 1) // 2, "ring": n if n > 2 else n - 1}
    assert len(graph.edges) == links.get(topology, n - 1)


@lean
@given(TOPOLOGIES, clusters())
def test_mixing_is_symmetric_doubly_stochastic_and_sparse_as_the_graph(topology, vertices):
    graph = plan(topology, vertices)
    mixing = graph.mixing
    assert np.allclose(mixing, mixing.T)
    assert np.allclose(mixing.sum(axis=1), 1.0)
    assert (mixing >= -1e-12).all()
    linked = {tuple(sorted(edge)) for edge in graph.edges}
    for i, first in enumerate(graph.vertices):
        for j, second in enumerate(graph.vertices):
            if i != j:
                assert (mixing[i, j] > 0) == (tuple(sorted((first, second))) in linked)


@lean
@given(TOPOLOGIES, clusters())
def test_the_diameter_is_the_longest_of_all_shortest_paths(topology, vertices):
    graph = plan(topology, vertices)
    n = len(graph.vertices)
    reach = np.eye(n, dtype=bool)
    steps = 0
    while not reach.all():
        reach = reach | ((reach.astype(int) @ (graph.mixing > 0).astype(int)) > 0)
        steps += 1
    assert graph.diameter == steps
    assert graph.spectral_gap is None if n == 1 else 0 < graph.spectral_gap <= 1


@lean
@given(TOPOLOGIES, clusters(), st.randoms(use_true_random=False))
def test_the_same_slots_give_the_same_graph(topology, vertices, shuffler):
    shuffled = list(vertices)
    shuffler.shuffle(shuffled)
    assert plan(topology, vertices).edges == plan(topology, shuffled).edges
