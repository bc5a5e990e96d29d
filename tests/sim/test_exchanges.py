"""Updates are averaged over links: what travels, who may read it, and what a death in the middle costs."""

from types import MappingProxyType

import numpy as np
import pytest

from flow_nexus_neural.coordination.training_strategy import Strategy
from flow_nexus_neural.engine.training import preparation
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.digest import vectors_digest
from flow_nexus_neural.protocol.messages import Fold, Folded
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.sim.simulated import IMPATIENT, reasons, slots, world
from tests.sim.test_lying_nodes import LIAR, lying, publishes

pytestmark = pytest.mark.anyio
LINKED = MappingProxyType({"peer_views": True})
"""The engine relays between the nodes, and takes that for memory that they share."""
BY_ENGINE = MappingProxyType({})
TOPOLOGIES = ("mesh", "ring", "star", "hierarchical")
SHARES = 5
"""Workers of the clusters below."""


async def trained(w, topology, *, consensus="byzantine", rounds=3, seed=1, **more):
    """A cluster of five workers, two aggregators and two parameter servers after a training by the mean."""
    cluster = await w.cluster(SHARES, topology=topology, consensus=consensus, seed=seed)
    for role in ("parameter_server", "parameter_server", "aggregator", "aggregator"):
        await w.deploy(cluster, role)
    await w.connect(cluster, topology)
    options = {"aggregation_method": "federated_averaging", "clients_per_round": SHARES} | more
    status = await w.train(cluster, epochs=rounds, refit=False, **options)
    assert status.training_status == "completed", status.error
    return cluster, status


async def digests(w, cluster):
    return [entry["weights_digest"] for entry in await w.round_versions(cluster)]


async def final_weights(w, cluster):
    committed = (await w.whole(cluster)).committed
    return committed.networks["c0"].state.params


@pytest.mark.parametrize("topology", TOPOLOGIES)
async def test_the_bytes_on_the_links_are_those_of_the_formula(tmp_path, topology):
    async with world(tmp_path, modes=LINKED) as w:
        _, status = await trained(w, topology, rounds=3)
    (exchange,) = status.exchange
    n = {"mesh": 5, "ring": 5, "star": 6, "hierarchical": 8}[topology]
    assert (exchange.path, exchange.members, exchange.contributors) == ("links", n, SHARES)
    assert exchange.bytes == 2 * (n - 1) * exchange.state_bytes
    assert status.communication.links == 3 * exchange.bytes


async def test_an_exchange_is_told_of_the_latest_training_only(tmp_path):
    async with world(tmp_path, modes=LINKED) as w:
        cluster, status = await trained(w, "mesh")
        assert status.exchange
        await w.start(cluster, epochs=2)
        assert (await w.status(cluster)).exchange == []


async def test_star_and_mesh_give_the_engines_bits_and_the_others_its_numbers(tmp_path):
    found = {}
    async with world(tmp_path / "engine") as w:
        cluster, status = await trained(w, "mesh")
        assert status.exchange[0].path == "engine"
        assert status.communication.links == 0
        engine, weights = await digests(w, cluster), await final_weights(w, cluster)
    async with world(tmp_path / "links", modes=LINKED) as w:
        for topology in TOPOLOGIES:
            cluster, _ = await trained(w, topology)
            found[topology] = await digests(w, cluster)
            assert np.allclose(await final_weights(w, cluster), weights, rtol=1e-5, atol=1e-6)
    assert found["mesh"] == found["star"] == engine
    assert len({tuple(one) for one in found.values()}) > 1  # a ring does round on its way


@pytest.mark.parametrize("topology", ["ring", "hierarchical"])
async def test_a_topology_gives_the_same_bytes_twice(tmp_path, topology):
    runs = []
    for name in ("one", "two"):
        async with world(tmp_path / name, modes=LINKED) as w:
            cluster, _ = await trained(w, topology)
            runs.append(await digests(w, cluster))
    assert runs[0] == runs[1]


async def test_clients_that_were_not_sampled_pass_on_and_receive(tmp_path):
    async with world(tmp_path, modes=LINKED) as w:
        _, status = await trained(w, "ring", clients_per_round=2)
    (exchange,) = status.exchange
    assert (exchange.members, exchange.contributors) == (5, 2)
    assert exchange.bytes < 2 * 4 * exchange.state_bytes


async def test_local_sgd_exchanges_over_links_too(tmp_path, monkeypatch):
    # Few rows are trained on by one worker: sharing them takes longer.
    monkeypatch.setattr(
        preparation, "choose_strategy", lambda _: Strategy("local_sgd", "for this test")
    )
    plain = {"federated": False, "clients_per_round": None, "aggregation_method": None}
    plain["consensus"] = "proof-of-learning"
    async with world(tmp_path / "links", modes=LINKED) as w:
        cluster, status = await trained(w, "mesh", **plain)
        assert status.communication.links > 0
        over_links = await digests(w, cluster)
    async with world(tmp_path / "engine") as w:
        cluster, _ = await trained(w, "mesh", **plain)
        assert await digests(w, cluster) == over_links


@pytest.mark.parametrize(
    ("topology", "victim", "nth"),
    [
        ("ring", "worker-2", 12),  # in the middle of the second exchange, which has eight steps
        ("mesh", "worker-1", 3),
        ("star", "parameter_server-0", 2),
        ("hierarchical", "parameter_server-0", 2),
        ("hierarchical", "aggregator-1", 3),
    ],
)
async def test_a_death_in_the_middle_of_an_exchange_does_not_lose_the_round(
    tmp_path, topology, victim, nth
):
    faults = FaultPlan().kill(victim, "fold", nth=nth)
    async with world(tmp_path, faults, modes=LINKED) as w:
        cluster, status = await trained(w, topology, rounds=4)
        rounds = await w.round_versions(cluster)
    assert faults.met(victim, "fold") >= nth
    assert status.training.current_round == 4
    assert [entry["round"] for entry in rounds] == [1, 2, 3, 4]
    late = [entry for entry in rounds if victim in reasons(entry)]
    assert (len(late) == 1) == victim.startswith("worker")
    for entry in late:
        assert "worker" in reasons(entry)[victim] or "node" in reasons(entry)[victim]
        assert victim not in slots(entry, "contributors")


async def test_a_hub_that_died_is_followed_by_the_next_and_by_the_engine_after_that(tmp_path):
    faults = FaultPlan().kill("parameter_server-0", "fold").kill("parameter_server-1", "fold")
    async with world(tmp_path, faults, modes=LINKED) as w:
        cluster, status = await trained(w, "star", rounds=1)
        assert len(await w.round_versions(cluster)) == 1
    assert faults.met("parameter_server-1", "fold") >= 1
    assert status.exchange[0].path == "engine"
    assert "exchange" in status.exchange[0].reason


async def test_a_frozen_member_costs_its_round_and_no_more(tmp_path):
    faults = FaultPlan().freeze("worker-3", "fold", nth=2)
    async with world(tmp_path, faults, modes=LINKED, ports=IMPATIENT) as w:
        cluster, _ = await trained(w, "mesh", rounds=3)
        rounds = await w.round_versions(cluster)
    assert len(rounds) == 3
    assert any("worker-3" in reasons(entry) for entry in rounds)


async def test_an_update_that_is_not_finite_is_found_and_left_out_by_name(tmp_path):
    service = lying(publishes(np.nan, honest_digest=False))
    async with world(tmp_path, service=service, modes=LINKED) as w:
        cluster, status = await trained(w, "ring")
        rounds = await w.round_versions(cluster)
    assert status.exchange[0].path == "links"
    for entry in rounds:
        assert "not finite" in reasons(entry)[LIAR]
        assert LIAR not in slots(entry, "contributors")


def sums_wrongly(service, request, reply, arrays):
    """Writes another sum into its state, and hands out its digest."""
    if isinstance(request, Fold) and isinstance(reply, Folded):
        region = service.regions[request.into]
        region["params"] += 1
        arrays = dict(region)
        if request.hashed:
            reply = reply.model_copy(update={"digest": vectors_digest(region.values())})
    return reply, arrays


async def test_a_wrong_sum_is_found_where_updates_are_audited(tmp_path):
    async with world(tmp_path / "honest", modes=LINKED) as w:
        cluster, _ = await trained(w, "mesh", consensus="proof-of-learning")
        honest = await digests(w, cluster)
    async with world(tmp_path / "lied", service=lying(sums_wrongly), modes=LINKED) as w:
        cluster, status = await trained(w, "mesh", consensus="proof-of-learning")
        assert await digests(w, cluster) == honest  # the engine's own sum took its place
    assert status.exchange[0].path == "engine"
    assert "not the average" in status.exchange[0].reason


async def test_a_wrong_sum_bites_where_nobody_audits(tmp_path):
    """What the test above defends against."""
    async with world(tmp_path / "honest", modes=LINKED) as w:
        cluster, _ = await trained(w, "mesh")
        honest = await digests(w, cluster)
    async with world(tmp_path / "lied", service=lying(sums_wrongly), modes=LINKED) as w:
        cluster, _ = await trained(w, "mesh")
        assert await digests(w, cluster) != honest


async def test_a_robust_rule_sends_single_updates_to_the_engine_and_says_so(tmp_path):
    async with world(tmp_path, modes=LINKED) as w:
        _, status = await trained(w, "ring", aggregation_method="median")
    (exchange,) = status.exchange
    assert exchange.path == "engine"
    assert "single update" in exchange.reason
    assert status.communication.links == 0


async def test_a_switch_of_topology_during_a_training_changes_the_way_and_not_the_numbers(tmp_path):
    async with world(tmp_path / "still", modes=LINKED) as w:
        cluster, _ = await trained(w, "star", rounds=6)
        still = await final_weights(w, cluster)
    async with world(tmp_path / "moved", modes=LINKED) as w:
        cluster = await w.cluster(SHARES, topology="star", consensus="byzantine")
        for role in ("parameter_server", "parameter_server", "aggregator", "aggregator"):
            await w.deploy(cluster, role)
        await w.connect(cluster, "star")
        await w.start(
            cluster,
            epochs=6,
            refit=False,
            aggregation_method="federated_averaging",
            clients_per_round=SHARES,
        )
        for topology in ("mesh", "star"):
            await w.rounds(cluster, 1)
            await w.connect(cluster, topology)
        status = await w.done(cluster)
        assert status.training_status == "completed"
        assert np.array_equal(await final_weights(w, cluster), still)


async def test_a_worker_reads_of_its_neighbours_only(tmp_path):
    granted = {}

    class Witness(NodeService):
        def __init__(self, *, slot, **given):
            super().__init__(**given)
            self.slot = slot

        def attach(self, key, arrays, *, writable):
            granted.setdefault(self.slot, set()).add(key)
            super().attach(key, arrays, writable=writable)

    def service(spec):
        return Witness(
            slot=spec.slot, node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed
        )

    async with world(tmp_path, service=service, modes=LINKED) as w:
        await trained(w, "ring")
    foreign = {
        key.rsplit(":", 1)[1]
        for key in granted["worker-2"]
        if key.startswith(("publish:", "state:")) and not key.endswith(":worker-2")
    }
    assert foreign == {"worker-1"}  # it reads its predecessor; its successor reads it
