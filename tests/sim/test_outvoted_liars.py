"""Two of eleven workers attack, or one of five: byzantine consensus learns by default, the mean does not."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import Build
from tests.doubles.tables import cells
from tests.sim.attackers import ATTACKS, Gang
from tests.sim.simulated import reasons, world

pytestmark = pytest.mark.anyio

WORKERS, LIARS = 11, ("worker-1", "worker-4")
CLASSES = 10
LAYERS = (
    {"type": "dense", "units": 64, "activation": "relu"},
    {"type": "dense", "units": 64, "activation": "relu"},
    {"type": "dense", "units": CLASSES},
)
BITES = "FOE 10"
"""The attack that takes the mean away; the others are for what they make of robust rules."""


@pytest.fixture(scope="module")
def digits():
    """Two thirds of the 1,797 images of 64 pixels that scikit-learn carries."""
    found = load_digits()
    return {
        "data": np.round(found.data[:1200] / 16, 3).tolist(),
        "labels": found.target[:1200].tolist(),
    }


OPTIONS = {
    "epochs": 13,
    "local_epochs": 2,
    "learning_rate": 0.05,
    "batch_size": 16,
    "optimizer": "sgd",
    "partition": "dirichlet:0.5",
}


async def attacked(tmp_path, data, attack, *, n=WORKERS, liars=LIARS, others=(), **more):
    """Status and versions of a training on unequal classes in which these workers attack.

    `others` are roles of which there is a node each.
    """
    lie, flips = ATTACKS[attack]
    gang = Gang(() if attack == "none" else liars, lie, flips=CLASSES if flips else 0)
    async with world(tmp_path, service=gang.service) as w:
        cluster = await w.cluster(n, layers=LAYERS, consensus="byzantine")
        for role in others:
            await w.deploy(cluster, role)
        status = await w.train(cluster, data, **OPTIONS | more)
        versions = await w.versions(cluster)
    assert status.training_status == "completed", status.training_error
    return status, versions


@pytest.mark.parametrize("attack", cells(ATTACKS, telling=("ALIE", BITES)))
async def test_the_default_learns_although_two_of_eleven_attack(tmp_path, digits, attack):
    status, versions = await attacked(tmp_path, digits, attack)
    assert status.global_accuracy > 0.85
    assert (status.guarantees.holds, status.guarantees.f_tolerated) == (True, 3)
    assert versions[0]["rule"] == "auto"
    assert (versions[0]["evidence"]["rule"], versions[0]["evidence"]["f"]) == ("caf", 3)
    suspected = {one["slot"] for one in status.consensus_report["byzantine"]["suspected"]}
    if attack in ("FOE 10", "label flip", "Gaussian"):
        assert suspected == set(LIARS)
        left_out = [slot for version in versions for slot in reasons(version)]
        assert all(2 * left_out.count(liar) > OPTIONS["epochs"] for liar in LIARS)
    else:
        assert suspected == set()


async def test_the_plain_mean_collapses_under_one_of_the_same_attacks(tmp_path, digits):
    method = {"aggregation_method": "federated_averaging", "clients_per_round": WORKERS}
    status, _ = await attacked(tmp_path / "lied", digits, BITES, **method)
    assert status.global_accuracy < 0.6
    assert status.guarantees.holds is False
    assert status.consensus_report is None
    honest, _ = await attacked(tmp_path / "honest", digits, "none", **method)
    assert honest.global_accuracy > 0.85


@pytest.mark.parametrize("federated", [True, False])
async def test_one_of_five_is_withstood_in_both_ways_of_training(tmp_path, digits, federated):
    one = {"n": 5, "liars": ("worker-3",)}
    if not federated:
        one |= {"federated": False, "local_epochs": None, "partition": None, "epochs": 15}
    status, _ = await attacked(tmp_path, digits, BITES, **one)
    assert status.global_accuracy > 0.85
    assert status.training.strategy == ("federated" if federated else "local_sgd")
    (suspect,) = status.consensus_report["byzantine"]["suspected"]
    assert suspect["slot"] == "worker-3"
    assert (status.guarantees.holds, status.guarantees.f_tolerated) == (True, 1)


async def test_a_round_that_lost_too_many_workers_fails_by_name_and_what_was_committed_stays(
    tmp_path,
):
    async with world(tmp_path) as w:
        cluster = await w.cluster(5, consensus="byzantine")
        more = {"epochs": 200, "byzantine_f": 2, "min_nodes_per_round": 1}
        report = await w.start(cluster, **more)
        assert (report.config.aggregation_method, report.config.byzantine_f) == ("auto", 2)
        assert report.guarantees.holds is False
        assert "5 updates cannot outvote 2 lying ones, 7 can" in report.guarantees.reason
        await w.rounds(cluster, 2)
        w.kill("worker-4")
        status = await w.done(cluster)
        assert status.training_status == "failed"
        assert "auto: 4 updates cannot outvote 2 lying ones, 5 can" in status.training_error
        assert {entry["evidence"]["rule"] for entry in await w.versions(cluster)} == {"caf"}
        assert status.model_version >= 2
        assert (await w.predict(cluster)).nodes_used == 4


async def test_with_one_worker_the_training_runs_and_says_what_is_missing(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1, consensus="byzantine")
        status = await w.train(cluster, federated=False, epochs=1)
        assert status.training_status == "completed", status.training_error
        assert (status.guarantees.n, status.guarantees.holds) == (1, False)
        assert "1 updates cannot outvote 1 lying ones, 4 can" in status.guarantees.reason
        (entry,) = await w.versions(cluster)
        told = entry["evidence"]["parts"][0]
        assert (told["rule"], told["f"]) == ("mean", 0)


async def test_a_worker_that_draws_other_initial_weights_does_not_choose_the_start(tmp_path):
    class Liar(NodeService):
        def handle(self, request, arrays, poll):
            if isinstance(request, Build):
                request = request.model_copy(update={"seed": request.seed + 1})
            return super().handle(request, arrays, poll)

    def service(spec):
        kind = Liar if spec.slot == "worker-0" and lies else NodeService
        return kind(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    starts = []
    for lies in (False, True):
        async with world(tmp_path / str(lies), service=service) as w:
            cluster = await w.cluster(4, consensus="byzantine")
            status = await w.train(cluster, epochs=1)
            starts.append(status.training.evidence.weights_digest_before)
    assert starts[0] == starts[1]


@pytest.mark.parametrize("federated", [True, False])
async def test_a_training_under_the_default_can_be_repeated_to_the_bit(tmp_path, federated):
    digests = []
    for folder in ("one", "two"):
        async with world(tmp_path / folder) as w:
            cluster = await w.cluster(5, consensus="byzantine")
            status = await w.train(cluster, federated=federated, epochs=3, batch_size=4)
            digests.append(status.training.evidence.weights_digest_after)
            parts = [len(e["evidence"].get("parts", [1])) for e in await w.versions(cluster)]
            assert all(e["evidence"] for e in await w.versions(cluster)), parts
    assert digests[0] == digests[1]
