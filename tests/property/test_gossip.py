"""Mixing keeps the mean and shrinks disagreement, whatever the states, the topology and who dies."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.coordination.consensus.gossip import (
    consensus_distance,
    plan_mixing,
    push_weights,
)
from flow_nexus_neural.coordination.topology import Vertex
from flow_nexus_neural.kernels.folding import fold

lean = settings(max_examples=100, derandomize=True, deadline=None)
TOPOLOGIES = st.sampled_from(["mesh", "ring", "star", "hierarchical"])


@st.composite
def mixings(draw):
    numbers = draw(st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True))
    workers = [Vertex(f"worker-{i}", "worker") for i in numbers]
    return plan_mixing(draw(TOPOLOGIES), workers, push_sum=draw(st.booleans()))


def states(seed, n, d=50):
    draw = np.random.Generator(np.random.PCG64(seed))
    return draw.standard_normal((n, d)).astype(np.float32) + np.float32(0.5)


def stepped(mixing, held):
    """Carry out a step as nodes do: each folds into a buffer that nobody reads."""
    place = {name: i for i, name in enumerate(mixing.members)}
    new = np.full_like(held, np.nan)
    for folding in mixing.step("update", "state", held.shape[1]):
        for part in folding.parts:
            sources = [([held[place[s.member]]], s.weight) for s in part.sources]
            fold([new[place[folding.member]]], sources, part.divisor, (part.start, part.stop))
    return new


@lean
@given(mixings())
def test_weights_are_doubly_stochastic_and_none_is_negative(mixing):
    weights = mixing.weights
    assert np.allclose(weights.sum(axis=0), 1)
    assert np.allclose(weights.sum(axis=1), 1)
    assert (weights >= -1e-12).all()


@lean
@given(mixings())
def test_a_worker_reads_its_neighbours_and_nobody_else(mixing):
    for folding in mixing.step("update", "state", 8):
        read = {source.member for part in folding.parts for source in part.sources}
        near = set(mixing.graph.neighbours(folding.member))
        assert read - {folding.member} <= near
        assert mixing.push_sum or read - {folding.member} == near


@lean
@given(mixings(), st.integers(0, 2**32), st.integers(1, 8))
def test_mixing_keeps_the_mean_and_shrinks_the_distance_by_the_gap(mixing, seed, steps):
    held = states(seed, len(mixing.members))
    mean = held.mean(axis=0, dtype=np.float64)
    before = consensus_distance(list(held), mean.astype(np.float32))
    for _ in range(steps):
        held = stepped(mixing, held)
    assert np.allclose(held.mean(axis=0, dtype=np.float64), mean, atol=1e-6)
    after = consensus_distance(list(held), mean.astype(np.float32))
    gap = 1.0 if mixing.spectral_gap is None else mixing.spectral_gap
    assert after <= before * (1 - gap) ** steps + 1e-6


@lean
@given(mixings(), st.integers(0, 2**32))
def test_equal_states_stay_as_they_are(mixing, seed):
    held = np.repeat(states(seed, 1), len(mixing.members), axis=0)
    assert np.array_equal(stepped(mixing, held), held)


@lean
@given(TOPOLOGIES, st.integers(2, 11), st.integers(0, 2**32), st.data())
def test_survivors_keep_their_mean_whoever_dies_between_two_steps(topology, n, seed, data):
    workers = [Vertex(f"worker-{i}", "worker") for i in range(n)]
    held = stepped(plan_mixing(topology, workers, push_sum=False), states(seed, n))
    left = data.draw(st.lists(st.sampled_from(range(n)), min_size=1, unique=True).map(sorted))
    again = plan_mixing(topology, [workers[i] for i in left], push_sum=False)
    mean = held[left].mean(axis=0, dtype=np.float64)
    assert again.graph.connected
    mixed = stepped(again, held[left])
    assert np.allclose(mixed.mean(axis=0, dtype=np.float64), mean, atol=1e-6)


@st.composite
def digraphs(draw):
    """Strongly connected: a cycle, and any further arcs."""
    n = draw(st.integers(2, 8))
    cycle = {(i, (i + 1) % n) for i in range(n)}
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    return n, sorted(cycle | set(draw(st.lists(st.sampled_from(pairs)))))


@lean
@given(digraphs(), st.integers(0, 2**32))
def test_push_sum_finds_the_mean_on_every_strongly_connected_graph(graph, seed):
    n, arcs = graph
    out = push_weights(n, arcs)
    x = states(seed, n).astype(np.float64)
    numerator, weight = x.copy(), np.ones(n)
    for _ in range(3000):
        numerator, weight = out @ numerator, out @ weight
    assert weight.sum() == np.float64(n) or abs(weight.sum() - n) < 1e-9
    assert np.allclose(numerator / weight[:, None], x.mean(axis=0), atol=1e-8)
