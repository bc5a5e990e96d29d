"""Plans of exchanges: every member ends with the average, and the bytes are those of the formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_nexus_neural.coordination.collectives import Collective, plan_average, plan_plane
from flow_nexus_neural.coordination.topology import ENGINE, Vertex
from flow_nexus_neural.kernels.averaging import federated_average
from flow_nexus_neural.kernels.folding import fold

TOPOLOGIES = ("mesh", "ring", "star", "hierarchical")


def vertices(workers, servers=0, aggregators=0, groups=()):
    made = [Vertex(f"parameter_server-{k}", "parameter_server") for k in range(servers)]
    made += [Vertex(f"aggregator-{k}", "aggregator") for k in range(aggregators)]
    made += [Vertex("validator-0", "validator")]
    return made + [
        Vertex(f"worker-{k}", "worker", groups[k % len(groups)] if groups else "")
        for k in range(workers)
    ]


def carried_out(collective: Collective, updates, length):
    """The members' states after all steps; a step reads what stood there before it."""
    states = {member: np.full(length, np.nan, np.float32) for member in collective.plane.members}
    for step in collective.steps:
        before = {member: state.copy() for member, state in states.items()}
        held = {"update": updates, "state": before}
        for folding in step:
            for part in folding.parts:
                sources = [([held[s.held][s.member]], s.weight) for s in part.sources]
                fold([states[folding.member]], sources, part.divisor, (part.start, part.stop))
    return states


def drawn(names, length, seed=0):
    draw = np.random.Generator(np.random.PCG64(seed))
    return {name: draw.standard_normal(length).astype(np.float32) for name in names}


@given(
    topology=st.sampled_from(TOPOLOGIES),
    numbers=st.tuples(st.integers(1, 9), st.integers(0, 2), st.integers(0, 3)),
    length=st.integers(1, 60),
    idle=st.integers(0, 8),
    groups=st.sampled_from([(), ("BTC", "ETH")]),
)
def test_every_worker_ends_with_the_average_of_those_that_contributed(
    topology, numbers, length, idle, groups
):
    workers, servers, aggregators = numbers
    plane = plan_plane(topology, vertices(workers, servers, aggregators, groups))
    if plane is None:
        assert workers == 1 or (topology == "star" and not servers)
        return
    rows = {f"worker-{k}": 7 + 3 * k for k in range(max(1, workers - idle))}
    updates = drawn(rows, length)
    collective = plan_average(plane, rows, length)
    states = carried_out(collective, updates, length)
    wanted = federated_average([updates[name] for name in rows], list(rows.values()))
    for worker in plane.workers:
        assert np.allclose(states[worker], wanted, rtol=1e-6, atol=1e-6)
        assert np.array_equal(states[worker], states[plane.workers[0]])
        if topology in {"mesh", "star"}:
            assert np.array_equal(states[worker], wanted)


@pytest.mark.parametrize("n", [2, 3, 6, 11])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_bytes_are_those_of_the_formulas(topology, n):
    servers = 1 if topology == "star" else 0
    plane = plan_plane(topology, vertices(n - servers, servers))
    length = 10 * n  # every chunk is as long as the others
    rows = dict.fromkeys(plane.workers, 5)
    collective = plan_average(plane, rows, length)
    sent = collective.bytes_from()
    m = 4 * length
    # A hub that trains on nothing has nothing to send up; every leaf gets the result down.
    assert len(plane.members) == n
    assert sent.total() == 2 * (n - 1) * m
    most = {
        "mesh": 2 * (n - 1) * m / n,
        "ring": 2 * (n - 1) * m / n,
        "star": (n - 1) * m,
        "hierarchical": max(
            len(plane.children(x)) * m + (x != plane.root) * m for x in plane.members
        )
        if topology == "hierarchical"
        else 0,
    }
    assert max(sent.values()) == most[topology]
    depth = max(map(plane.depth, plane.members)) if topology == "hierarchical" else 1
    steps = {"mesh": 2, "ring": 2 * (n - 1), "star": 2, "hierarchical": 2 * depth}
    assert len(collective.steps) == steps[topology]


def test_a_mesh_that_sends_whole_vectors_would_break_its_formula():
    plane = plan_plane("mesh", vertices(6))
    collective = plan_average(plane, dict.fromkeys(plane.workers, 1), 60)
    assert collective.bytes_from().total() < 6 * 5 * 4 * 60  # everybody reads everybody


@given(
    topology=st.sampled_from(TOPOLOGIES),
    workers=st.integers(2, 9),
    servers=st.integers(0, 1),
    aggregators=st.integers(0, 3),
)
def test_nobody_reads_but_along_an_edge(topology, workers, servers, aggregators):
    plane = plan_plane(topology, vertices(workers, servers, aggregators))
    if plane is None:
        return
    rows = dict.fromkeys(plane.workers, 1)
    edges = {frozenset(edge) for edge in plane.edges}
    read = [
        (folding.member, source.member)
        for step in plan_average(plane, rows, 33).steps
        for folding in step
        for part in folding.parts
        for source in part.sources
        if source.member != folding.member
    ]
    assert read
    assert {frozenset(pair) for pair in read} <= edges


def test_a_hierarchy_sums_below_its_aggregators_first():
    plane = plan_plane("hierarchical", vertices(4, 2, 2, ("BTC", "ETH")))
    assert plane.root == "parameter_server-0"
    assert "parameter_server-1" not in plane.members  # stands by
    assert plane.children("aggregator-0") == ("worker-0", "worker-2")
    up = plan_average(plane, dict.fromkeys(plane.workers, 1), 8).steps[1]
    assert [s.member for s in up[0].parts[0].sources] == ["aggregator-0", "aggregator-1"]


def test_without_a_parameter_server_the_engine_is_the_root_of_the_aggregators():
    plane = plan_plane("hierarchical", vertices(4, 0, 2))
    assert plane.root == ENGINE
    assert plan_average(plane, dict.fromkeys(plane.workers, 1), 8).steps[1][0].member == ENGINE


def test_an_aggregator_without_workers_takes_no_part():
    plane = plan_plane("hierarchical", vertices(1, 1, 3))
    assert plane.members == ("parameter_server-0", "aggregator-0", "worker-0")


def test_more_workers_than_a_mesh_may_have_exchange_nothing_in_one():
    assert plan_plane("mesh", vertices(33)) is None
    assert len(plan_plane("ring", vertices(33)).members) == 33


@pytest.mark.parametrize("rows", [{}, {"worker-9": 1}, {"worker-0": 0}])
def test_rows_of_nobody_and_of_strangers_are_refused(rows):
    with pytest.raises(ValueError, match="are not rows"):
        plan_average(plan_plane("ring", vertices(3)), rows, 4)
