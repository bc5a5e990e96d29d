"""A training that is given nothing but data: what is chosen for it, and that it learns."""

import numpy as np

from tests.sim.simulated import blobs, world


def rings(rows, seed=0):
    """Two classes, one around the other: no straight line parts them, and few steps do not suffice."""
    draw = np.random.Generator(np.random.PCG64(seed))
    y = np.arange(rows) % 2
    angle = draw.uniform(0, 2 * np.pi, rows)
    radius = np.where(y == 1, 2.0, 1.0) + 0.15 * draw.standard_normal(rows)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return {"X": np.round(x, 4).tolist(), "y": y.tolist()}


async def plain(w, data, workers=1, **more):
    """A cluster without layers, trained without arguments."""
    cluster = await w.cluster(workers, layers=None, **more)
    nothing = dict.fromkeys(("epochs", "batch_size", "learning_rate"))
    started = await w.start(cluster, data, federated=False, **nothing)
    return cluster, started, await w.done(cluster)


async def test_a_training_that_is_given_only_data_learns_them(tmp_path):
    async with world(tmp_path) as w:
        cluster, started, status = await plain(w, rings(300))
        assert status.training_status in ("completed", "early_stopped"), status.training_error
        assert status.global_accuracy > 0.95
        assert started.config.chosen == ["epochs", "batch_size", "learning_rate", "patience"]
        assert (await w.predict(cluster, [0.0, 0.9])).prediction < 0.1
        assert (await w.predict(cluster, [0.0, 2.1])).prediction > 0.9


async def test_too_few_rows_for_validation_are_learnt_without_it(tmp_path):
    async with world(tmp_path) as w:
        _, started, status = await plain(w, rings(120), workers=2)
        assert (status.training_status, started.config.patience) == ("completed", 0)
        assert status.global_accuracy > 0.9


async def test_the_network_follows_the_rows_and_the_reply_says_so(tmp_path):
    series = [{"t": hour, "a": hour % 5, "b": (hour * 7) % 11, "y": hour % 2} for hour in range(90)]
    asked = {"target": "y", "time_column": "t"}
    async with world(tmp_path) as w:
        cluster = await w.cluster(1, layers=None, architecture="rnn")
        for more, kinds, view in (
            ({}, ["dense", "dropout"], [2]),
            ({"window": 4}, ["lstm"], [4, 2]),
        ):
            started = await w.start(cluster, series, federated=False, epochs=1, **asked, **more)
            assert started.networks[0].layers_source == "default"
            assert started.networks[0].input == view
            told = [warning for warning in started.warnings if "'rnn' counts for" in warning]
            assert len(told) == (0 if more else 1)
            await w.done(cluster)
            group = next(iter((await w.whole(cluster)).committed.networks.values()))
            assert [layer.type for layer in group.plan.layers][: len(kinds)] == kinds


async def test_a_worker_that_joins_without_layers_serves_the_network_of_the_others(tmp_path):
    async with world(tmp_path) as w:
        cluster, _, status = await plain(w, blobs(120), architecture="hybrid")
        report = await w.deploy(cluster, layers=None)
        assert (report.layers_source, report.synced_version) == ("default", status.model_version)
        assert [layer["type"] for layer in report.layers] == ["dense", "dropout"]
        assert (await w.predict(cluster)).nodes_used == 2


async def test_a_deploy_before_any_data_says_for_what_its_layers_are(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(0, architecture="cnn")
        report = await w.deploy(cluster, layers=None)
        assert (report.layers[0]["type"], report.parameters) == ("conv1d", None)
        assert any("rows without one get dense" in warning for warning in report.warnings)


async def test_many_windows_are_learnt_in_large_batches(tmp_path):
    """How well the market is learnt by default is measured by bench/defaults.py: it takes many rows."""
    async with world(tmp_path) as w:
        cluster = await w.cluster(1, layers=None)
        market = "crypto_market_historical_data#rows=5000"
        wanted = {"epochs": 1, "batch_size": None, "learning_rate": None}
        started = await w.start(cluster, market, federated=False, refit=False, **wanted)
        assert started.networks[0].input == [50, 4]
        assert started.config.batch_size == 128
