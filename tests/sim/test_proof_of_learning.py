"""Proof-of-learning in a running engine: honest workers pass, cheats are excluded and quarantined."""

import hashlib
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from flow_nexus_neural.engine.ports import REAL_PORTS
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import Reexecute
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.tables import cells
from tests.sim.cheats import (
    ATTACKS,
    CHEAT,
    KnowsTheBeacon,
    LabelFlip,
    Withholds,
    WrongRate,
    service_of,
)
from tests.sim.simulated import LAYERS, blobs, node_of, reasons, slots, world

pytestmark = pytest.mark.anyio

DATA = blobs(480)
ROUNDS = 3
ONE_PLACE = {"places": 1}
"""Workers train in slot order, so that the one who copies finds something to copy."""


def pol(status):
    return status.consensus_report["pol"]


def ports(beacon=None):
    """Ports whose random bits are numbers that follow from a counter; the beacon may be given."""
    numbers = count()

    def random_bits(n):
        if beacon is not None and n == 256:
            return int(beacon, 16)
        digest = hashlib.sha256(str(next(numbers)).encode()).digest()
        return int.from_bytes(digest, "big") >> (256 - n)

    return replace(REAL_PORTS, random_bits=random_bits)


async def digests(w, cluster):
    return [entry["weights_digest"] for entry in await w.versions(cluster)]


async def without_the_cheat(tmp_path, round_number, **more):
    """Digests of the versions of a training in which the cheat dies before its update of a round."""
    faults = FaultPlan().kill(CHEAT, "train", nth=round_number)
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        status = await w.train(cluster, DATA, epochs=ROUNDS, **more)
        assert status.training_status == "completed", status.training_error
        return await digests(w, cluster)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_cheat_is_quarantined_and_the_weights_are_those_of_a_run_without_it(
    tmp_path, attack
):
    caught_in = 2 if attack == "replay" else 1
    expected = await without_the_cheat(tmp_path / "without", caught_in)
    service = service_of(ATTACKS[attack])
    async with world(tmp_path / "with", service=service, modes=ONE_PLACE) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        status = await w.train(cluster, DATA, epochs=ROUNDS)
        assert status.training_status == "completed", status.training_error
        assert await digests(w, cluster) == expected
        entries = await w.round_versions(cluster)
        assert "proof of learning invalid" in reasons(entries[caught_in - 1])[CHEAT]
        for entry in entries[caught_in - 1 :]:
            assert CHEAT not in slots(entry, "contributors")
        node = node_of(status, CHEAT)
        assert node.status == "quarantined"
        assert "proof of learning invalid" in node.last_error
        assert node.pol["failed"] == 1
        assert pol(status)["excluded_updates"] == 1
        assert any(f"{CHEAT} quarantined" in warning for warning in status.warnings)
        for other in ("worker-0", "worker-2"):
            assert node_of(status, other).pol["failed"] == 0
            assert node_of(status, other).status == "healthy"


@pytest.mark.parametrize("factor", [1e-4, 10], ids=["free rider", "wrong learning rate"])
async def test_without_proofs_the_same_cheat_has_its_way(tmp_path, factor):
    """The control: under another mode its update is averaged in."""
    found = []
    for name, service in (("honest", service_of(NodeService)), ("cheat", at_rate(factor))):
        async with world(tmp_path / name, service=service) as w:
            cluster = await w.cluster(3, daa_enabled=True, consensus="byzantine")
            mean = {"aggregation_method": "federated_averaging"}
            status = await w.train(cluster, DATA, epochs=ROUNDS, **mean)
            assert CHEAT in slots((await w.round_versions(cluster))[-1], "contributors")
            assert node_of(status, CHEAT).status == "healthy"
            assert (status.consensus_report, node_of(status, CHEAT).pol) == (None, None)
            found.append(await digests(w, cluster))
    honest, cheated = found
    assert honest != cheated


LAYERS_WITH_NOISE = (
    {"type": "dense", "units": 6, "activation": "relu"},
    {"type": "batch_normalization"},
    {"type": "dropout", "rate": 0.3},
    {"type": "dense", "units": 1},
)


@pytest.mark.parametrize(
    "optimizer", cells(("adam", "sgd", "rmsprop", "adagrad"), telling=("adam", "sgd"))
)
async def test_honest_workers_are_never_rejected(tmp_path, optimizer):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, daa_enabled=True, layers=LAYERS_WITH_NOISE)
        status = await w.train(cluster, DATA, epochs=25, optimizer=optimizer)
        assert status.training_status == "completed", status.training_error
        report = pol(status)
        assert (report["verified_rounds"], report["excluded_updates"]) == (25, 0)
        assert report["verification"] == "bitwise"
        for node in status.nodes:
            assert node.pol["challenged"] == node.pol["verified"] >= 25
            assert node.pol["segments"] > node.pol["challenged"]


@pytest.mark.parametrize(
    "method", ["fedprox", "fedadam", "fedyogi", "fedadagrad", "fedavgm", "scaffold"]
)
async def test_federated_methods_are_proved_as_well(tmp_path, method):
    optimizer = "sgd" if method == "scaffold" else "adam"
    async with world(tmp_path, service=service_of(WrongRate)) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        status = await w.train(
            cluster, DATA, epochs=8, aggregation_method=method, optimizer=optimizer
        )
        assert status.training_status == "completed", status.training_error
        assert pol(status)["excluded_updates"] == 1
        assert node_of(status, CHEAT).status == "quarantined"
        for other in ("worker-0", "worker-2"):
            assert node_of(status, other).pol["verified"] >= 8


async def test_the_ledger_names_beacon_root_and_verdicts_of_every_round(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        await w.train(cluster, DATA, epochs=2)
        entries = await w.round_versions(cluster)
        beacons = set()
        for entry in entries:
            (proofs,) = entry["proofs"]
            beacons.add(proofs["beacon"])
            assert [one["slot"] for one in proofs["verdicts"]] == slots(entry, "contributors")
            assert all(one["verdict"] == "valid" for one in proofs["verdicts"])
            assert len(proofs["proofs_root"]) == 64
        assert len(beacons) == len(entries) == 2


async def two_groups(w):
    """Workers of two networks, which train side by side also where `federated` is false."""
    cluster = await w.cluster(2, daa_enabled=True)
    for _ in range(2):
        await w.deploy(cluster, layers=({"type": "dense", "units": 3}, *LAYERS[1:]))
    return cluster


async def test_the_parts_of_an_epoch_between_two_averages_are_proved_one_by_one(tmp_path):
    made = []
    for name, faults, service in (
        ("without", FaultPlan().kill(CHEAT, "train"), service_of(NodeService)),
        ("with", None, service_of(WrongRate)),
    ):
        async with world(tmp_path / name, faults, service) as w:
            cluster = await two_groups(w)
            status = await w.train(cluster, DATA, epochs=2, federated=False, batch_size=2)
            assert status.training_status == "completed", status.training_error
            made.append(await digests(w, cluster))
            entries = await w.round_versions(cluster)
            assert len(entries[0]["proofs"]) > 1
            assert pol(status)["verified_rounds"] == 2
    assert node_of(status, CHEAT).status == "quarantined"
    without, cheated = made
    assert without == cheated


@pytest.mark.parametrize("topology", ["mesh", "ring", "star"])
async def test_updates_that_travel_over_links_are_proved_before_they_do(tmp_path, topology):
    made = []
    for name, faults, service in (
        ("without", FaultPlan().kill(CHEAT, "train"), service_of(NodeService)),
        ("with", None, service_of(WrongRate)),
    ):
        modes = {"peer_views": True}
        async with world(tmp_path / name, faults, service, modes=modes) as w:
            # In the other run the killed worker must not come back.
            cluster = await w.cluster(4, daa_enabled=name == "with", topology=topology)
            await w.connect(cluster)
            status = await w.train(cluster, DATA, epochs=6)
            assert status.training_status == "completed", status.training_error
            made.append(await digests(w, cluster))
            assert all(node_of(status, f"worker-{k}").pol["failed"] == 0 for k in (0, 2, 3))
    assert node_of(status, CHEAT).status == "quarantined"
    without, cheated = made
    assert without == cheated


async def test_a_single_process_that_cheats_is_replaced_by_the_next_worker(tmp_path):
    service = service_of(WrongRate, cheats=("worker-0",))
    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        status = await w.train(cluster, DATA, epochs=2, federated=False)
        assert status.training.strategy == "single_process"
        assert status.training_status == "completed", status.training_error
        assert node_of(status, "worker-0").status == "quarantined"
        for entry in await w.round_versions(cluster):
            assert slots(entry, "contributors") == ["worker-1"]


async def test_each_network_group_proves_its_own_and_one_beacon_serves_all(tmp_path):
    async with world(tmp_path, service=service_of(WrongRate)) as w:
        cluster = await two_groups(w)
        status = await w.train(cluster, DATA, epochs=2)
        assert status.training_status == "completed", status.training_error
        first = [entry for entry in await w.round_versions(cluster) if entry["round"] == 1]
        assert len(first) == 2
        own = {entry["cohort"]: entry["proofs"][0] for entry in first}
        assert {one["slot"] for one in own["c0"]["verdicts"]} == {"worker-0", "worker-1"}
        assert {one["slot"] for one in own["c1"]["verdicts"]} == {"worker-2", "worker-3"}
        assert own["c0"]["beacon"] == own["c1"]["beacon"]
        assert own["c0"]["proofs_root"] != own["c1"]["proofs_root"]
        assert node_of(status, CHEAT).status == "quarantined"


async def test_a_robust_rule_combines_what_was_admitted(tmp_path):
    async with world(tmp_path, service=service_of(WrongRate)) as w:
        cluster = await w.cluster(5, daa_enabled=True)
        status = await w.train(cluster, DATA, epochs=2, aggregation_method="trimmed_mean")
        assert status.training_status == "completed", status.training_error
        first = (await w.round_versions(cluster))[0]
        assert (first["rule"], len(first["contributors"])) == ("trimmed_mean", 4)
        assert CHEAT in reasons(first)


async def test_a_quarantined_worker_serves_no_more_until_a_deploy_replaces_it(tmp_path):
    honest_again = []

    def service(spec):
        kind = NodeService if honest_again else None
        made = service_of(WrongRate)(spec)
        return kind(node_id=spec.node_id, incarnation=spec.incarnation, seed=1) if kind else made

    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        await w.train(cluster, DATA, epochs=2)
        assert (await w.predict(cluster)).nodes_used == 2
        status = await w.train(cluster, DATA, epochs=1)
        assert slots((await w.round_versions(cluster))[-1], "contributors") == [
            "worker-0",
            "worker-2",
        ]
        honest_again.append(True)
        report = await w.deploy(cluster, layers=None)
        assert (report.slot, report.incarnation) == (CHEAT, 2)
        assert (await w.predict(cluster)).nodes_used == 3
        status = await w.train(cluster, DATA, epochs=1)
        assert node_of(status, CHEAT).pol["failed"] == 0
        assert len(slots((await w.round_versions(cluster))[-1], "contributors")) == 3


async def test_a_restarted_server_still_knows_the_proofs_and_the_quarantine(tmp_path):
    async with world(tmp_path, service=service_of(WrongRate)) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        before = await w.train(cluster, DATA, epochs=2)
    async with world(tmp_path) as w:
        after = await w.status(cluster)
        assert pol(after) == pol(before)
        assert [node.pol for node in after.nodes] == [node.pol for node in before.nodes]
        node = node_of(after, CHEAT)
        assert node.status == "quarantined"
        assert node.last_error == node_of(before, CHEAT).last_error
        await w.train(cluster, DATA, epochs=1)
        assert node_of(await w.status(cluster), CHEAT).status == "quarantined"


async def test_a_worker_that_dies_before_it_reveals_is_unavailable_and_not_a_cheat(tmp_path):
    faults = FaultPlan().kill(CHEAT, "reveal")
    async with world(tmp_path, faults, ports=ports()) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster, DATA, epochs=8)
        assert status.training_status == "completed", status.training_error
        node = node_of(status, CHEAT)
        assert (node.status, node.pol["unavailable"], node.pol["failed"]) == ("failed", 1, 0)
        (entry,) = [
            entry
            for entry in await w.round_versions(cluster)
            if "unavailable" in reasons(entry).get(CHEAT, "")
        ]
        assert slots(entry, "contributors") == ["worker-0", "worker-2"]


async def test_three_withheld_proofs_in_a_row_are_a_quarantine(tmp_path):
    async with world(tmp_path, service=service_of(Withholds), ports=ports()) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        status = await w.train(cluster, DATA, epochs=30, patience=0)
        assert status.training_status == "completed", status.training_error
        node = node_of(status, CHEAT)
        assert (node.status, node.pol["strikes"], node.pol["failed"]) == ("quarantined", 3, 0)
        assert "not revealed" in node.pol["last_reason"]


async def test_a_round_of_which_too_little_is_admitted_is_tried_again_and_fails_with_the_reason(
    tmp_path,
):
    everybody = ("worker-0", "worker-1", "worker-2")
    async with world(tmp_path, service=service_of(WrongRate, cheats=everybody)) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        status = await w.train(cluster, DATA, epochs=1)
        assert status.training_status == "failed"
        assert status.model_version is None
        assert [node.status for node in status.nodes] == ["quarantined"] * 3
        assert pol(status)["verified_rounds"] == 0
        assert pol(status)["excluded_updates"] == 3


async def test_a_validator_repeats_the_segments_and_is_named(tmp_path):
    async with world(tmp_path, service=service_of(WrongRate)) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        await w.deploy(cluster, "validator", layers=None)
        status = await w.train(cluster, DATA, epochs=2)
        assert pol(status)["verifier"] == "validator-0"
        assert pol(status)["shard_visible_to"] == ["validator-0"]
        assert node_of(status, CHEAT).status == "quarantined"
        assert not [node for node in w.runtime.nodes if node.spec.slot == "verifier-0"]


async def test_the_engines_own_process_ends_with_the_training(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2, daa_enabled=True)
        status = await w.train(cluster, DATA, epochs=1)
        assert pol(status)["verifier"] == "engine"
        assert [n for n in w.runtime.nodes if n.spec.slot == "verifier-0" and not n.gone] == []


async def test_a_verifier_that_dies_is_replaced_and_harms_no_worker(tmp_path):
    faults = FaultPlan().kill("verifier-0", "reexecute", nth=2)
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        status = await w.train(cluster, DATA, epochs=3)
        assert status.training_status == "completed", status.training_error
        assert pol(status)["excluded_updates"] == 0
        assert [node.status for node in status.nodes] == ["healthy"] * 3


async def test_one_faulty_validator_of_two_ends_nobodys_membership(tmp_path):
    def service(spec):
        kind = Gainsayer if spec.slot == "validator-0" else NodeService
        return kind(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        for _ in range(2):
            await w.deploy(cluster, "validator", layers=None)
        status = await w.train(cluster, DATA, epochs=2)
        assert status.training_status == "completed", status.training_error
        assert pol(status)["excluded_updates"] == 0
        assert pol(status)["shard_visible_to"] == ["engine", "validator-0", "validator-1"]


async def test_a_cheat_that_knows_the_beacon_before_it_commits_gets_through(tmp_path):
    """The control: this is why the beacon is drawn when every commitment is there."""
    expected = await without_the_cheat(tmp_path / "without", 1)
    fixed = ports(KnowsTheBeacon.beacon)
    async with world(tmp_path / "known", service=service_of(KnowsTheBeacon), ports=fixed) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        status = await w.train(cluster, DATA, epochs=ROUNDS)
        assert node_of(status, CHEAT).status == "healthy"
        assert pol(status)["excluded_updates"] == 0
        assert await digests(w, cluster) != expected
    async with world(tmp_path / "drawn", service=service_of(KnowsTheBeacon), ports=ports()) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        status = await w.train(cluster, DATA, epochs=30)
        assert node_of(status, CHEAT).status == "quarantined"


async def test_a_verifier_that_takes_the_learning_rate_from_the_worker_lets_a_wrong_one_through(
    tmp_path,
):
    service = service_of(WrongRate, verifier=asking(learning_rate=10))
    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        status = await w.train(cluster, DATA, epochs=1)
        assert node_of(status, CHEAT).status == "healthy"


async def test_a_verifier_that_takes_the_rows_from_the_worker_lets_flipped_labels_through(
    tmp_path,
):
    service = service_of(LabelFlip, verifier=FlippedToo)
    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(3, daa_enabled=True)
        status = await w.train(cluster, DATA, epochs=1)
        assert node_of(status, CHEAT).status == "healthy"


def at_rate(factor):
    """A cheat that takes steps so much longer or shorter, whether it has to prove them or not."""

    class AtRate(NodeService):
        def handle(self, request, arrays, poll):
            if request.kind == "train":
                rate = request.learning_rate * factor
                request = request.model_copy(update={"learning_rate": rate})
            return super().handle(request, arrays, poll)

    return service_of(AtRate)


class Gainsayer(NodeService):
    """Finds another state than there is."""

    def handle(self, request, arrays, poll):
        reply, made = super().handle(request, arrays, poll)
        if isinstance(request, Reexecute):
            reply = reply.model_copy(update={"after": "f" * 64})
        return reply, made


class FlippedToo(NodeService):
    """Has the rows of the cheat as the cheat has them."""

    def attach(self, key, arrays, *, writable):
        if key == f"shard:{CHEAT}":
            arrays = {**arrays, "y": (1 - arrays["y"]).astype(np.float32)}
        super().attach(key, arrays, writable=writable)


def asking(**factors):
    """A verifier that believes the cheat's own hyper-parameters."""

    class Gullible(NodeService):
        def handle(self, request, arrays, poll):
            if isinstance(request, Reexecute) and request.work.shard == f"shard:{CHEAT}":
                changed = {k: f * getattr(request.work, k) for k, f in factors.items()}
                work = request.work.model_copy(update=changed)
                request = request.model_copy(update={"work": work})
            return super().handle(request, arrays, poll)

    return Gullible
