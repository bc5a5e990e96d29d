"""Mixing between neighbours: its weights, its plans, and what is said of it."""

import math

import numpy as np
import pytest

from flow_nexus_neural.coordination.collectives import Folding
from flow_nexus_neural.coordination.consensus.gossip import (
    GOSSIP,
    MOST_STEPS,
    PUSH_SUM,
    TARGET_DISTANCE,
    GossipSeen,
    advice,
    carried,
    consensus_distance,
    evidence_of,
    next_steps,
    plan_mixing,
    push_weights,
    spectral_gap_of,
    steps_to_shrink,
    too_heavy,
)
from flow_nexus_neural.coordination.topology import ENGINE, Vertex, plan_peers

TOPOLOGIES = ("mesh", "ring", "star", "hierarchical")
IRREGULAR = [(0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (3, 1)]
"""Strongly connected; no two vertices need the same weights."""


def workers(n):
    return [Vertex(f"worker-{i}", "worker", "BTC") for i in range(n)]


def mixing(topology, n, *, push_sum=False):
    return plan_mixing(topology, workers(n), push_sum=push_sum)


@pytest.mark.parametrize("n", [3, 4, 5, 6, 11, 32])
def test_gaps_equal_the_formulas_of_the_topologies(n):
    assert mixing("mesh", n).spectral_gap == pytest.approx(1.0)
    assert mixing("star", n).spectral_gap == pytest.approx(1 / n)
    ring = 2 / 3 * (1 - math.cos(2 * math.pi / n))
    assert mixing("ring", n).spectral_gap == pytest.approx(ring)
    directed = mixing("ring", n, push_sum=True)
    assert directed.spectral_gap == pytest.approx(1 - math.cos(math.pi / n))
    assert (directed.push_sum, directed.diameter) == (True, n - 1)
    assert directed.spectral_gap <= ring / 2 + 1e-12


@pytest.mark.parametrize(("n", "gap"), [(6, 0.092), (11, 0.042), (32, 0.010)])
def test_the_gap_of_a_tree_of_workers_is_the_measured_one(n, gap):
    assert mixing("hierarchical", n).spectral_gap == pytest.approx(gap, abs=6e-4)


@pytest.mark.parametrize(
    ("topology", "n", "steps"),
    [("mesh", 6, 1), ("star", 6, 38), ("hierarchical", 6, 72), ("ring", 6, 18), ("star", 11, 73)],
)
def test_the_steps_to_shrink_disagreement_follow_from_the_gap(topology, n, steps):
    gap = mixing(topology, n).spectral_gap
    assert steps_to_shrink(gap) == steps
    assert (1 - gap) ** steps <= 1e-3
    assert topology == "mesh" or (1 - gap) ** (steps - 1) > 1e-3


def test_after_many_steps_disagreement_is_in_the_order_of_the_gaps():
    draw = np.random.Generator(np.random.PCG64(1))
    x = draw.standard_normal((8, 200))
    left = {}
    for topology in TOPOLOGIES:
        mixed = np.linalg.matrix_power(mixing(topology, 8).weights, 40) @ x
        left[topology] = float(np.linalg.norm(mixed - x.mean(axis=0)))
    by_gap = sorted(TOPOLOGIES, key=lambda name: -mixing(name, 8).spectral_gap)
    assert sorted(TOPOLOGIES, key=left.get) == by_gap == ["mesh", "ring", "star", "hierarchical"]


def test_disagreement_between_two_parts_never_shrinks():
    assert steps_to_shrink(0.0) is None


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_workers_mix_among_themselves_without_the_engine(topology):
    graph = plan_peers(topology, workers(5))
    assert ENGINE not in graph.vertices
    assert graph.hub == {"star": "worker-0", "hierarchical": "worker-0"}.get(topology)
    assert graph.connected


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("n", [2, 3, 6, 11])
def test_a_step_reads_two_states_a_link(topology, n):
    made = mixing(topology, n)
    step = made.step("update", "state", length=100)
    read = sum((folding.bytes_from().total() for folding in step), 0)
    assert read == 2 * len(made.graph.edges) * 400
    edges = {"mesh": n * (n - 1) // 2, "ring": n if n > 2 else n - 1}.get(topology, n - 1)
    assert len(made.graph.edges) == edges


def test_push_sum_reads_one_state_a_worker():
    step = mixing("ring", 6, push_sum=True).step("update", "state", length=100)
    assert sum((folding.bytes_from().total() for folding in step), 0) == 6 * 400
    assert {s.member for s in step[2].parts[0].sources} == {"worker-1", "worker-2"}


@pytest.mark.parametrize("topology", ["mesh", "star", "hierarchical"])
def test_push_sum_is_for_rings(topology):
    assert mixing(topology, 5, push_sum=True).push_sum is False


def test_a_step_never_reads_what_it_writes():
    made = mixing("ring", 4)
    with pytest.raises(ValueError, match="cannot read and write"):
        made.step("state", "state", 10)
    for folding in made.step("state", "update", 10):
        assert folding.into == "update"
        assert {source.held for part in folding.parts for source in part.sources} == {"state"}


def test_a_mesh_that_grew_in_a_training_is_mixed_all_the_same():
    assert mixing("mesh", 40).spectral_gap == pytest.approx(1.0)


def test_one_worker_keeps_what_it_has():
    alone = mixing("star", 1)
    (folding,) = alone.step("update", "state", 10)
    assert folding.bytes_from().total() == 0
    assert [source.weight for source in folding.parts[0].sources] == [1.0]
    assert (alone.spectral_gap, alone.diameter, alone.graph.connected) == (None, 0, True)


def test_a_copy_between_the_own_buffers_moves_nothing():
    (folding,) = carried(["worker-1"], "update", "state", 10)
    assert isinstance(folding, Folding)
    assert (folding.into, folding.bytes_from().total()) == ("state", 0)


def test_weights_of_rows_alone_move_the_mean_of_an_irregular_graph_and_push_sum_does_not():
    """The control: what is conserved is conserved by the weights and not by the test."""
    x = np.array([4.0, 0.0, -1.0, 9.0])
    out = push_weights(4, IRREGULAR)
    assert np.allclose(out.sum(axis=0), 1)
    rows = (out > 0) / (out > 0).sum(axis=1, keepdims=True)
    naive, numerator, weight = x.copy(), x.copy(), np.ones(4)
    for _ in range(400):
        naive = rows @ naive
        numerator, weight = out @ numerator, out @ weight
    assert np.ptp(naive) < 1e-9  # they agree, on something else
    assert abs(naive.mean() - x.mean()) > 0.1
    assert np.allclose(numerator / weight, x.mean(), atol=1e-12)
    assert np.ptp(weight) > 0.1  # in a ring they would all be 1
    ring = push_weights(5, [(i, (i + 1) % 5) for i in range(5)])
    assert np.allclose(ring @ np.ones(5), 1)


def test_a_directed_graph_in_two_parts_has_no_gap():
    assert spectral_gap_of(push_weights(4, [(0, 1), (1, 0), (2, 3), (3, 2)])) == 0.0
    assert spectral_gap_of(np.ones((1, 1))) is None


def test_the_distance_is_that_of_the_formula():
    draw = np.random.Generator(np.random.PCG64(3))
    states = [draw.standard_normal(70_000).astype(np.float32) for _ in range(4)]
    mean = np.mean(states, axis=0, dtype=np.float64).astype(np.float32)
    spread = np.mean([np.linalg.norm(state - mean) ** 2 for state in states])
    wanted = math.sqrt(spread) / np.linalg.norm(mean)
    assert consensus_distance(states, mean) == pytest.approx(wanted, rel=1e-5)
    assert consensus_distance([mean, mean], mean) == 0.0


def test_a_distance_from_nothing_has_no_value_unless_all_are_there():
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert consensus_distance([zero, zero], zero) == 0.0
    assert consensus_distance([one, -one], zero) is None


def test_steps_double_while_workers_are_too_far_apart():
    far, near = TARGET_DISTANCE * 1.01, TARGET_DISTANCE
    assert [next_steps(k, far) for k in (1, 2, 4, 8)] == [2, 4, 8, MOST_STEPS]
    assert next_steps(2, near) == 2
    assert next_steps(2, None) == 4


def test_a_large_mesh_may_not_move_gigabytes_in_a_step():
    assert too_heavy("mesh", 12, 10_000_000) is not None
    assert "1.3 GB" in too_heavy("mesh", 12, 10_000_000)
    assert too_heavy("mesh", 11, 10_000_000) is None
    assert too_heavy("mesh", 12, 1_000_000) is None
    assert too_heavy("ring", 12, 10_000_000) is None


def test_advice_names_the_gap_and_what_it_costs():
    (said,) = advice("star", workers(6))
    assert "spectral gap 0.167" in said
    assert "so 38 shrink it a thousandfold; in a mesh 1 does it" in said
    (said,) = advice("mesh", workers(6))
    assert "at most 0.0%" in said
    assert "so 1 shrink it" in said
    assert advice("ring", workers(1)) == ()


def test_the_mean_at_a_barrier_is_plain_whatever_the_rows():
    states = [{"params": np.full(3, value, np.float32)} for value in (1.0, 4.0)]
    combined = GOSSIP.combine(states[0], states, [1, 99])
    assert combined.vectors["params"].tolist() == [2.5] * 3
    assert combined.weights == (0.5, 0.5)
    with pytest.raises(ValueError, match="no state"):
        PUSH_SUM.combine({}, [], [])


def found(distance, topology="ring", steps=1):
    return evidence_of(mixing(topology, 5), 5, steps, distance)


def test_what_barriers_saw_is_that_of_the_group_farthest_apart():
    assert GossipSeen().report() is None
    seen = GossipSeen().after(1, {"c0": found(0.01), "c1": found(0.04, "star")})
    seen = seen.after(2, {"c0": found(0.02), "c1": found(0.01, "star")})
    report = seen.report()
    assert (report["network"], report["consensus_distance"]) == ("c0", 0.02)
    assert report["spectral_gap"] == mixing("ring", 5).spectral_gap
    assert report["steps_doubled_after_rounds"] == []
    assert seen.rounds == 2


def test_a_round_after_which_steps_are_doubled_is_named():
    seen = GossipSeen().after(1, {"c0": found(0.01)}).after(2, {"c0": found(0.06)})
    assert seen.report()["mixing_steps"] == 1
    seen = seen.after(3, {"c0": found(0.2, steps=MOST_STEPS)})
    assert seen.report()["steps_doubled_after_rounds"] == [2]


def test_rounds_of_other_rules_are_not_seen():
    assert GossipSeen().after(1, {"c0": {"rule": "krum", "distance": {}}}) == GossipSeen()
