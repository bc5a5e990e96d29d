"""What a connect reports is the graph as it works, or as it is going to be, and says which."""

import pytest

from flow_nexus_neural.coordination.topology import MESH_LIMIT, Vertex, plan
from flow_nexus_neural.engine.links.report import (
    MAX_EDGES_SHOWN,
    MAX_FAULTS_TOLD,
    SKIPPED,
    Applied,
    connect_report,
    not_performed,
    planned_graph,
)
from flow_nexus_neural.errors import InvalidTopology, NoWorkers
from tests.unit.engine.building import cluster_state, live, slot
from tests.unit.engine.running import running, virtual_time

APPLIED = Applied(None, changed=True, aggregation=not_performed("not_trained"), moved_shards=0)


@pytest.fixture
def anyio_backend():
    return virtual_time()


def break_links(w, *names):
    """Detach nodes without telling their links: those links no longer work."""
    for name in names:
        w.slots[name].detach()


def graph_of(topology, n):
    return plan(topology, [Vertex(f"worker-{k}", "worker", "") for k in range(n)])


async def test_an_aggregation_that_was_not_performed_has_a_reason_and_no_number():
    made = not_performed("unchanged")
    assert (made.performed, made.reason, made.excluded) == (False, "unchanged", [])
    numbers = made.model_dump(exclude={"performed", "reason", "excluded"})
    assert set(numbers.values()) == {None}
    assert SKIPPED.reason == "not_trained"  # the shared value was not written to


async def test_only_healthy_nodes_are_planned_for(tmp_path):
    async with running(tmp_path, 4) as w:
        assert len(planned_graph(w.cluster, "ring").edges) == 4
        w.slots["worker-3"].fail("dead")
        graph = planned_graph(w.cluster, "ring")
        assert graph.vertices == ("worker-0", "worker-1", "worker-2")
        assert len(graph.edges) == 3


async def test_without_a_healthy_node_there_is_nothing_to_plan_and_the_hint_says_what_to_do(
    tmp_path,
):
    async with running(tmp_path, 0) as w:
        with pytest.raises(NoWorkers, match="healthy nodes: no nodes") as refusal:
            planned_graph(w.cluster, "star")
        assert refusal.value.hint.startswith("deploy nodes with neural_node_deploy")
    async with running(tmp_path / "other", 1) as w:
        w.slots["worker-0"].fail("dead")
        with pytest.raises(NoWorkers, match="0 of 1 workers") as refusal:
            planned_graph(w.cluster, "star")
        assert refusal.value.hint.startswith("replace worker-0")


def test_more_nodes_than_a_mesh_can_link_are_refused():
    state = cluster_state()
    for number in range(MESH_LIMIT + 1):
        state.slots.add(slot(f"worker-{number}", state="healthy", handle=object()))
    with pytest.raises(InvalidTopology, match=f"a mesh of {MESH_LIMIT + 1} nodes") as refusal:
        planned_graph(live(state), "mesh")
    assert "connect as star" in refusal.value.hint
    assert len(planned_graph(live(state), "star").edges) == MESH_LIMIT + 1


async def test_the_graph_is_reduced_to_the_links_that_work(tmp_path):
    async with running(tmp_path, 4) as w:
        await w.connect("mesh")
        whole = connect_report(w.cluster, "mesh", APPLIED)
        assert (whole.connections, whole.connected, whole.diameter) == (6, True, 1)
        break_links(w, "worker-3")
        report = connect_report(w.cluster, "mesh", APPLIED)
        assert (report.connections, report.nodes_connected) == (3, 3)
        ends = {end for edge in report.edges for end in (edge.from_slot, edge.to_slot)}
        assert ends == {"worker-0", "worker-1", "worker-2"}
        told = [text for text in report.warnings if "does not work" in text]
        assert len(told) == 3
        assert all("worker-3" in text for text in told)


async def test_a_link_has_a_measured_latency_and_a_planned_one_has_none(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.connect("mesh")
        now = connect_report(w.cluster, "mesh", APPLIED)
        for edge in now.edges:
            measured = w.cluster.wiring.latency_ms((edge.from_slot, edge.to_slot))
            assert edge.latency_ms == measured
        later = connect_report(w.cluster, "ring", APPLIED, planned=planned_graph(w.cluster, "ring"))
        assert {edge.latency_ms for edge in later.edges} == {None}


async def test_under_gossip_advice_is_of_the_workers_that_mix(tmp_path):
    async with running(tmp_path, 5, init={"consensus": "gossip"}) as w:
        await w.deploy("validator")
        await w.connect("star")
        (said,) = connect_report(w.cluster, "star", APPLIED).advice
        assert "5 workers in a star" in said
        assert "spectral gap 0.2" in said  # neither the engine nor the validator is a hub of theirs
        w.slots["worker-4"].fail("dead")
        (said,) = connect_report(w.cluster, "star", APPLIED).advice
        assert "spectral gap 0.25" in said


async def test_a_planned_change_is_pending_and_says_that_it_waits(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.connect("mesh")
        planned = graph_of("star", 3)
        report = connect_report(w.cluster, "star", APPLIED, planned=planned)
        assert (report.status, report.pending, report.applied) == ("pending", True, "next_round")
        assert report.connections == len(planned.edges) == 3
        assert report.warnings == ["the change waits for the end of the running round"]
        now = connect_report(w.cluster, "mesh", APPLIED)
        assert (now.status, now.pending, now.applied) == ("connected", False, "now")


async def test_a_change_at_a_boundary_is_whole_and_not_called_immediate(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.connect("mesh")
        report = connect_report(w.cluster, "mesh", APPLIED, next_round=True)
        assert (report.status, report.applied, report.pending) == (
            "connected",
            "next_round",
            False,
        )


async def test_many_edges_are_counted_and_not_listed(tmp_path):
    async with running(tmp_path, 2) as w:
        n = MAX_EDGES_SHOWN
        shown = connect_report(w.cluster, "mesh", APPLIED, planned=graph_of("mesh", n))
        assert len(shown.edges) == shown.connections == n * (n - 1) // 2
        hidden = connect_report(w.cluster, "mesh", APPLIED, planned=graph_of("mesh", n + 1))
        assert (hidden.edges, hidden.connections) == (None, n * (n + 1) // 2)


async def test_few_faults_are_told_and_the_rest_counted(tmp_path):
    async with running(tmp_path, 6) as w:
        await w.connect("mesh")
        break_links(w, "worker-0", "worker-1", "worker-2")
        report = connect_report(w.cluster, "mesh", APPLIED)
        broken = 15 - 3
        told = [text for text in report.warnings if "does not work:" in text]
        assert len(told) == MAX_FAULTS_TOLD
        assert report.warnings[-1] == f"{broken - MAX_FAULTS_TOLD} more links do not work"


async def test_the_report_names_what_was_before_and_what_was_declared(tmp_path):
    async with running(tmp_path, 3, init={"topology": "ring"}) as w:
        await w.connect("mesh")
        applied = Applied("star", changed=False, aggregation=SKIPPED, moved_shards=2)
        report = connect_report(w.cluster, "mesh", applied)
        assert (report.previous_topology, report.declared_topology) == ("star", "ring")
        assert (report.changed, report.rebalanced.moved_shards) == (False, 2)
        assert report.topology_epoch == w.cluster.state.topology_epoch == 1


async def test_workers_with_a_symbol_are_grouped_under_their_aggregator(tmp_path):
    async with running(tmp_path, 0) as w:
        for tag in ("btc_analysis", "eth_analysis", "btc_analysis", "eth_analysis"):
            await w.deploy(capabilities=(tag,))
        for _ in range(2):
            await w.deploy("aggregator")
        await w.deploy("parameter_server")
        edges = planned_graph(w.cluster, "hierarchical").edges
        above = {worker: other for other, worker in edges if worker.startswith("worker")}
        assert above["worker-0"] == above["worker-2"] != above["worker-1"] == above["worker-3"]
