"""Federated methods end to end: on unequal shards, through restarts, and against what they exclude."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.federated_methods import METHODS
from flow_nexus_neural.engine.state.network_groups import ModelState
from flow_nexus_neural.errors import InvalidArguments
from tests.doubles.tables import cells
from tests.sim.simulated import blobs, world

pytestmark = pytest.mark.anyio

NAMES = [method.name for method in METHODS]
KEEPING = ["fedavgm", "fedadam", "fedyogi", "fedadagrad"]
DIGITS = ({"type": "dense", "units": 24, "activation": "relu"},)
SKEWED = {
    "data": "sklearn:digits",
    "epochs": 12,
    "local_epochs": 2,
    "batch_size": 16,
    "learning_rate": 0.1,
    "optimizer": "sgd",
    "partition": "shards:2",
    "clients_per_round": 3,
}
SMALL = {"epochs": 4, "optimizer": "sgd", "clients_per_round": 2, "learning_rate": 0.1}


async def on_digits(tmp_path, method, **more):
    async with world(tmp_path / method) as w:
        cluster = await w.cluster(5, layers=DIGITS)
        status = await w.train(cluster, **SKEWED, aggregation_method=method, **more)
        digests = [entry["weights_digest"] for entry in await w.round_versions(cluster)]
    assert status.training_status == "completed", status.training_error
    return status, digests


@pytest.fixture(scope="module")
def averages():
    """Weights of the rounds of the plain average, trained once for all methods."""
    return []


@pytest.mark.parametrize("method", NAMES)
async def test_each_method_learns_from_unequal_shards_and_differs_from_the_average(
    tmp_path, averages, method
):
    more = {"server_learning_rate": 0.05} if method == "fedadagrad" else {}
    status, digests = await on_digits(tmp_path, method, **more)
    if not averages:
        averages.extend((await on_digits(tmp_path, "fedavg"))[1])
    assert set(digests).isdisjoint(averages[1:])
    losses = [point.val_loss for point in status.history]
    assert min(losses) < 0.7 * losses[0]
    assert status.global_accuracy > 0.6


async def twice(tmp_path, name, method, *, restarted, between=None):
    """Weights of the rounds of a second training, after one of the same method."""
    async with world(tmp_path / name) as w:
        cluster = await w.cluster(3)
        await w.train(cluster, aggregation_method=method, **SMALL)
        if between is not None:
            await w.train(cluster, aggregation_method=between, **SMALL)
        if not restarted:
            await w.train(cluster, aggregation_method=method, **SMALL)
            return await last_rounds(w, cluster, method)
    async with world(tmp_path / name) as w:
        await w.train(cluster, aggregation_method=method, **SMALL)
        return await last_rounds(w, cluster, method)


async def last_rounds(w, cluster, method):
    """Weights of the rounds of the latest training; the links made after a restart commit a version too."""
    rounds = [entry for entry in await w.versions(cluster) if entry["rule"] == method]
    return [entry["weights_digest"] for entry in rounds[-SMALL["epochs"] :]]


@pytest.mark.parametrize("method", cells(NAMES, telling=("fedprox", "fedadam", "scaffold")))
async def test_a_later_training_is_the_same_after_a_restart_of_the_server(tmp_path, method):
    went_on = await twice(tmp_path, "one life", method, restarted=False)
    assert len(went_on) == 4
    assert await twice(tmp_path, "two lives", method, restarted=True) == went_on


def server_state(w, cluster):
    (network,) = w.engine.cluster(cluster).committed.networks.values()
    return network.state.server, network.server_blob


@pytest.mark.parametrize("method", KEEPING)
async def test_what_the_server_keeps_is_durable_and_goes_on_until_another_method_trains(
    tmp_path, method
):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        await w.train(cluster, aggregation_method=method, **SMALL)
        kept, blob = server_state(w, cluster)
        assert kept.method == method
        assert kept.vectors["server_m"].any()
        first_blobs = files(tmp_path)
        assert blob in first_blobs
    async with world(tmp_path) as w:
        again, same = server_state(w, cluster)
        assert (again.method, same) == (method, blob)
        for name, vector in kept.vectors.items():
            assert np.array_equal(again.vectors[name], vector)
        await w.train(cluster, aggregation_method="fedavg", **SMALL)
        assert server_state(w, cluster) == (None, None)
        assert blob not in files(tmp_path)


def files(state_dir):
    """Names of the checkpoint files that there are."""
    return {path.stem for path in state_dir.glob("blobs/*/*.safetensors")}


@pytest.mark.parametrize("method", cells(KEEPING, telling=("fedavgm", "fedadam")))
async def test_without_the_kept_state_a_later_training_would_be_another(
    tmp_path, method, monkeypatch
):
    """The control of the test of restarts: what is kept makes a difference."""
    went_on = await twice(tmp_path, "kept", method, restarted=False)
    forgot = await twice(tmp_path, "other", method, restarted=False, between="fedavg")
    assert set(went_on).isdisjoint(forgot)
    monkeypatch.setattr(
        ModelState, "for_training_with", lambda self, _method: replace(self, server=None)
    )
    dropped = await twice(tmp_path, "dropped", method, restarted=False)
    assert dropped[-1] != went_on[-1]


async def test_a_stopped_training_goes_on_with_the_moments_of_its_last_round(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        await w.start(cluster, aggregation_method="fedadam", **{**SMALL, "epochs": 500})
        training = (await w.rounds(cluster, 2)).training.training_id
        await w.terminate(cluster, training_id=training)
        assert (await w.done(cluster)).training_status == "stopped"
        stopped, _ = server_state(w, cluster)
        assert stopped.method == "fedadam"
        last = (await w.versions(cluster))[-1]["weights_digest"]
    async with world(tmp_path) as w:
        kept, _ = server_state(w, cluster)
        assert np.array_equal(kept.vectors["server_v"], stopped.vectors["server_v"])
        status = await w.train(cluster, aggregation_method="fedadam", **SMALL)
        assert status.training.evidence.weights_digest_before == last
        grown, _ = server_state(w, cluster)
        assert not np.array_equal(grown.vectors["server_v"], kept.vectors["server_v"])


async def test_a_connect_between_trainings_loses_no_moments(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        await w.train(cluster, aggregation_method="fedyogi", **SMALL)
        before, _ = server_state(w, cluster)
        report = await w.connect(cluster, "star")
        assert report.aggregation.performed
        after, blob = server_state(w, cluster)
        assert np.array_equal(after.vectors["server_m"], before.vectors["server_m"])
        assert blob in files(tmp_path)


def daily(n=300):
    draw = np.random.Generator(np.random.PCG64(3))
    x = np.round(draw.standard_normal((n, 3)), 4)
    days = np.datetime64("2020-01-01") + np.arange(n)
    return [
        {"day": str(day), "a": a, "b": b, "c": c, "y": int(a - b > 0)}
        for day, (a, b, c) in zip(days, x.tolist(), strict=True)
    ]


@pytest.mark.parametrize("method", ["fedadam", "scaffold"])
async def test_folds_and_refit_start_as_the_rounds_did(tmp_path, method):
    """The refit's first round on the same rows would be the training's: it starts from the same moments."""
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        options = {"target": "y", "aggregation_method": method, "folds": 2, "refit": True, **SMALL}
        status = await w.train(cluster, daily(), **options)
        assert status.training_status == "completed", status.training_error
        assert status.training.refit.state == "done", status.training.refit
        assert [fold.error for fold in status.training.folds] == [None, None]
        versions = await w.versions(cluster)
        assert versions[-1]["rule"] == "refit"
        second = await w.train(cluster, daily(), **options)
        assert second.training_status == "completed", second.training_error
        digests = [entry["weights_digest"] for entry in await w.versions(cluster)]
    async with world(tmp_path) as w:
        third = await w.train(cluster, daily(), **options)
        assert third.training_status == "completed", third.training_error
        assert third.training.evidence.weights_digest_before in digests


async def test_a_damaged_file_of_moments_is_named_and_the_weights_are_kept(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.train(cluster, aggregation_method="fedavgm", **SMALL)
        _, blob = server_state(w, cluster)
    path = tmp_path / "blobs" / blob[:2] / f"{blob}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    async with world(tmp_path) as w:
        status = await w.status(cluster)
        answered = await w.predict(cluster)
    lost = [said for said in status.warnings if blob[:12] in said]
    assert "the optimiser's state of version 4 is lost" in lost[0]
    assert answered.model_version == status.model_version == 5


async def test_one_full_batch_epoch_is_one_centralised_step(tmp_path):
    """FedAvg with one epoch, the whole shard as a batch and sgd, on any shards."""
    params = {}
    for workers, partition in ((1, "iid"), (3, "iid"), (4, "dirichlet:0.5")):
        async with world(tmp_path / f"{workers}{partition}") as w:
            cluster = await w.cluster(workers)
            status = await w.train(
                cluster, blobs(300), epochs=1, optimizer="sgd", learning_rate=0.3, batch_size=512,
                clients_per_round=workers, partition=partition,
            )  # fmt: skip
            assert status.training_status == "completed", status.training_error
            assert status.training.evidence.steps == workers
            (network,) = w.engine.cluster(cluster).committed.networks.values()
            params[workers] = network.state.params
    for workers in (3, 4):
        np.testing.assert_allclose(params[workers], params[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["fedprox", "fedavgm", "scaffold"])
async def test_one_client_is_local_training(tmp_path, method):
    """Without momentum and at rate 1 the server adds nothing; SCAFFOLD's c - c_i is 0 for the only client."""
    given = {"fedprox": {"proximal_mu": 0.0}, "fedavgm": {"server_momentum": 0.0}}.get(method, {})
    params = {}
    for name, options in ((method, given), ("fedavg", {})):
        async with world(tmp_path / name) as w:
            cluster = await w.cluster(1)
            await w.train(
                cluster, aggregation_method=name, **{**SMALL, "clients_per_round": 1}, **options
            )
            (network,) = w.engine.cluster(cluster).committed.networks.values()
            params[name] = network.state.params
    np.testing.assert_allclose(params[method], params["fedavg"], rtol=0, atol=1e-5)


async def test_options_take_effect_and_are_in_the_configuration(tmp_path):
    seen = {}
    for rate, momentum in ((1.0, 0.9), (0.5, 0.9), (1.0, 0.0)):
        async with world(tmp_path / f"{rate}-{momentum}") as w:
            cluster = await w.cluster(3)
            options = {"server_learning_rate": rate, "server_momentum": momentum}
            report = await w.start(cluster, aggregation_method="fedavgm", **options, **SMALL)
            assert report.config.method_options == options
            status = await w.done(cluster)
            assert status.training.aggregation == {"method": "fedavgm", **options}
            seen[rate, momentum] = status.training.evidence.weights_digest_after
    assert len(set(seen.values())) == 3
    async with world(tmp_path / "1.0-0.0") as w:
        status = await w.status(cluster)
        assert status.training.aggregation["server_momentum"] == 0.0


async def test_a_large_mu_leaves_the_model_at_its_start(tmp_path):
    moved = {}
    for mu in (0.01, 1e6):
        async with world(tmp_path / str(mu)) as w:
            cluster = await w.cluster(3)
            report = await w.start(cluster, aggregation_method="fedprox", proximal_mu=mu, **SMALL)
            assert any("proximal_mu" in said for said in report.warnings) == (mu > 1)
            await w.done(cluster)
            (network,) = w.engine.cluster(cluster).committed.networks.values()
            moved[mu] = network.state.params
    async with world(tmp_path / "start") as w:
        cluster = await w.cluster(3)
        await w.train(cluster, **{**SMALL, "epochs": 1, "learning_rate": 1e-5})
        (network,) = w.engine.cluster(cluster).committed.networks.values()
        start = network.state.params
    assert np.abs(moved[1e6] - start).max() < 1e-3
    assert np.abs(moved[0.01] - start).max() > 0.05


@pytest.mark.parametrize("method", NAMES)
async def test_on_a_cluster_that_withstands_liars_no_method_of_trust_trains(tmp_path, method):
    async with world(tmp_path) as w:
        cluster = await w.cluster(4, consensus="byzantine")
        with pytest.raises(InvalidArguments, match="one lying worker can turn anywhere"):
            await w.start(cluster, aggregation_method=method, **SMALL)
        assert (await w.status(cluster)).training_status == "none"


async def test_status_tells_how_the_rows_of_workers_differ(tmp_path):
    found = {}
    for partition in ("iid", "shards:1", "dirichlet:0.1"):
        async with world(tmp_path / partition) as w:
            cluster = await w.cluster(2)
            status = await w.train(cluster, blobs(400), partition=partition, **SMALL)
            shards = {shard.slot: shard for shard in status.training.shards}
            assert {slot: own.rows for slot, own in shards.items()} == {
                node.slot: node.rows for node in status.nodes
            }
            for own in shards.values():
                assert sum(own.labels.values()) == pytest.approx(1)
            found[partition] = status.training.heterogeneity
            assert (await w.status(cluster, detail="nodes")).training.shards is None
        async with world(tmp_path / partition) as w:
            again = (await w.status(cluster)).training
            assert (again.heterogeneity, again.shards) == (
                found[partition],
                status.training.shards,
            )
    assert found["iid"] < 0.02 < found["dirichlet:0.1"]
    # One class each against half and half: H(3/4) - (H(1) + H(1/2)) / 2 = .811 - .5 bits.
    assert found["shards:1"] == pytest.approx(0.311, abs=0.01)
    async with world(tmp_path / "not federated") as w:
        cluster = await w.cluster(2)
        status = await w.train(cluster, federated=False)
        assert (status.training.heterogeneity, status.training.shards) == (None, None)
