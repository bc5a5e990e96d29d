"""A validator selects the rule of each round, or makes an update of its own, and liars are withstood."""

import numpy as np
import pytest

from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.tables import cells
from tests.sim import test_outvoted_liars as outvoted
from tests.sim.attackers import ATTACKS
from tests.sim.simulated import AT_THE_END, blobs, world
from tests.sim.test_outvoted_liars import LAYERS, LIARS, WORKERS, digits
from tests.sim.test_poisoned_clients import folder

__all__ = ["digits", "folder"]
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_out_of_fold")]

ENOUGH = blobs(1000)


async def attacked(tmp_path, data, attack, **more):
    """Status and rounds of a training in which two of eleven workers attack, and a validator does not."""
    given = {"others": ("validator",)} | more
    status, versions = await outvoted.attacked(tmp_path, data, attack, **given)
    return status, [entry for entry in versions if entry["rule"] not in AT_THE_END]


@pytest.mark.parametrize("attack", cells(ATTACKS, telling=("ALIE", "label flip")))
async def test_with_a_validator_rules_are_selected_and_learn_although_two_attack(
    tmp_path, digits, attack
):
    status, versions = await attacked(tmp_path, digits, attack)
    assert status.global_accuracy > 0.85
    assert {entry["rule"] for entry in versions} == {"validated"}
    chosen = [entry["evidence"]["selection"]["chosen"] for entry in versions]
    assert all(
        entry["evidence"]["rule"] == name.partition(",")[0]
        for entry, name in zip(versions, chosen, strict=True)
    )
    report = status.consensus_report["byzantine"]
    counted = {
        rule: [c.partition(",")[0] for c in chosen].count(rule) for rule in report["rule_histogram"]
    }
    assert report["rule_histogram"] == counted
    assert report["rule_last"] == chosen[-1].partition(",")[0]
    if attack == "none":
        assert chosen.count("mean") > 10, "the mean is thrown away for nothing"
    if attack == "FOE 10":
        assert "mean" not in chosen
        assert {one["slot"] for one in report["suspected"]} == set(LIARS)


async def test_a_trusted_update_withstands_what_takes_the_mean_away(tmp_path, digits):
    status, versions = await attacked(tmp_path, digits, "FOE 10", aggregation_method="fltrust")
    assert status.global_accuracy > 0.85
    assert {entry["evidence"]["rule"] for entry in versions} == {"fltrust"}
    assert {one["slot"] for one in status.consensus_report["byzantine"]["suspected"]} == set(LIARS)


async def test_the_rows_of_lying_clients_select_nothing_unasked(tmp_path, folder):
    place = folder(None)
    async with world(tmp_path / "state", allow_paths=(place.parent,)) as w:
        cluster = await w.cluster(WORKERS, layers=LAYERS, consensus="byzantine")
        await w.deploy(cluster, "validator")
        report = await w.start(cluster, str(place), epochs=1)
        assert report.config.partition == "client"
        assert report.config.aggregation_method == "auto"
        await w.done(cluster)


async def test_a_validator_that_dies_leaves_the_rounds_to_auto_and_the_evidence_says_so(tmp_path):
    faults = FaultPlan().kill("validator-0", "infer", nth=9)
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(5, consensus="byzantine")
        await w.deploy(cluster, "validator")
        status = await w.train(cluster, ENOUGH, epochs=3)
        assert status.training_status == "completed", status.training_error
        versions = await w.round_versions(cluster)
    assert {entry["rule"] for entry in versions} == {"validated"}
    evidence = [entry["evidence"] for entry in versions]
    assert "chosen" in evidence[0]["selection"]
    assert evidence[-1]["rule"] == "caf"
    assert "no healthy node is left" in evidence[-1]["selection"]["off"]


@pytest.mark.parametrize("federated", [True, False])
async def test_a_selection_can_be_repeated_to_the_bit(tmp_path, federated):
    digests = []
    for name in ("one", "two"):
        async with world(tmp_path / name) as w:
            cluster = await w.cluster(5, consensus="byzantine")
            await w.deploy(cluster, "validator")
            status = await w.train(cluster, ENOUGH, federated=federated, epochs=2)
            digests.append(status.training.evidence.weights_digest_after)
            (first, *_) = await w.versions(cluster)
            told = first["evidence"]
            assert (told if federated else told["parts"][0])["selection"]["rows"] >= 64
    assert digests[0] == digests[1]


@pytest.mark.parametrize("method", ["fltrust", "validated"])
async def test_by_name_without_a_validator_or_rows_it_is_refused_and_nothing_starts(
    tmp_path, method
):
    async with world(tmp_path) as w:
        cluster = await w.cluster(5, consensus="byzantine")
        with pytest.raises(InvalidArguments, match="needs a healthy validator"):
            await w.start(cluster, ENOUGH, aggregation_method=method)
        await w.deploy(cluster, "validator")
        with pytest.raises(InvalidArguments, match="needs 64 validation rows"):
            await w.start(cluster, blobs(300), aggregation_method=method)
        assert (await w.status(cluster)).training_status == "none"


def hours(rows=1500):
    """Noisy rows by the hour, whose label the first two columns decide."""
    draw = np.random.Generator(np.random.PCG64(4))
    x = np.round(draw.standard_normal((rows, 3)), 4)
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    start = np.datetime64("2024-01-01T00:00:00")
    times = [f"{start + np.timedelta64(k, 'h')}Z" for k in range(rows)]
    return {
        "columns": ["time", "a", "b", "c", "y"],
        "rows": [[t, *map(float, row), int(k)] for t, row, k in zip(times, x, y, strict=True)],
    }


class Remembering(NodeService):
    """Tells which regions it holds."""

    def __init__(self, **given):
        super().__init__(**given)
        self.held, self.seen = set(), set()

    def attach(self, key, arrays, *, writable):
        self.held.add(key)
        self.seen.add(key)
        super().attach(key, arrays, writable=writable)

    def detach(self, keys):
        self.held -= set(keys)
        super().detach(keys)


@pytest.mark.parametrize("method", [None, "fltrust"])
async def test_folds_and_the_refit_have_trusted_rows_of_their_own(tmp_path, method):
    services = []

    def make(spec):
        services.append(Remembering(node_id=spec.node_id, incarnation=1, seed=spec.seed))
        return services[-1]

    async with world(tmp_path, service=make) as w:
        cluster = await w.cluster(4, consensus="byzantine")
        await w.deploy(cluster, "validator")
        status = await w.train(
            cluster,
            hours(),
            target="y",
            folds=3,
            epochs=3,
            batch_size=16,
            learning_rate=0.05,
            validation_size=0.25,
            aggregation_method=method,
        )
        assert status.training_status == "completed", status.training_error
        assert status.training.refit.state == "done", status.training.refit.error
        assert [fold.error for fold in status.training.folds] == [None] * 3
        assert all(fold.accuracy > 0.7 for fold in status.training.folds)
        held = [{key.partition(":")[0] for key in service.held} for service in services]
        seen = [{key.partition(":")[0] for key in service.seen} for service in services]
        assert ["trusted" in of for of in seen] == [False] * 4 + [True], "others saw trusted rows"
        assert not set.union(*held) & {"trusted", "shard", "publish"}
