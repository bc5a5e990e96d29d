"""Folds and refit train the same networks again on other rows, and say what such a training gives."""

from functools import partial

import numpy as np
import pytest

from flow_nexus_neural.data.rescaling import rescaled
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.state.steering import Steering
from flow_nexus_neural.engine.storage.cluster_rows import training_of
from flow_nexus_neural.engine.training import retraining
from flow_nexus_neural.engine.training.course import Course
from flow_nexus_neural.engine.training.division import cut_shards
from flow_nexus_neural.engine.training.preparation import prepare_training
from flow_nexus_neural.engine.training.retraining import Retraining, planned_refit
from flow_nexus_neural.engine.training.rounds import Rounds
from flow_nexus_neural.engine.versions.final import evaluated_networks
from flow_nexus_neural.errors import RoundFailed
from flow_nexus_neural.settings import Settings
from tests.doubles.linear_service import LinearService
from tests.unit.engine.building import training
from tests.unit.engine.running import linear_runtime, running, virtual_time

N = 300


@pytest.fixture
def anyio_backend():
    return virtual_time()


def series(n=N, flip=None):
    """Daily rows whose target is linear in three inputs; from row `flip` on with the other sign."""
    draw = np.random.Generator(np.random.PCG64(3))
    x = np.round(draw.standard_normal((n, 3)), 4)
    y = x @ np.array([1.0, -2.0, 0.5]) + 0.05 * draw.standard_normal(n)
    if flip is not None:
        y[flip:] *= -1
    days = np.datetime64("2020-01-01") + np.arange(n)
    return [
        {"day": str(day), "a": row[0], "b": row[1], "c": row[2], "y": round(target, 4)}
        for day, row, target in zip(days, x.tolist(), y.tolist(), strict=True)
    ]


ORDERED = {"dataset": series(), "target": "y", "epochs": 3}


def params(w):
    return w.committed.networks["c0"].state.params


async def trained_on(w, rows, data, prepared, n_rounds):
    """What so many rounds on these rows give, from the start of a new cluster's first training."""
    config = prepared.config

    def cut(workers):
        return cut_shards(data, rows, workers, config.partition, prepared.run)

    course = Course(config, prepared.recipe, rows, cut, 1, prepared.run)
    shards = cut(w.slots.healthy("worker"))
    rounds = Rounds(w.cluster, course, dict(prepared.networks), shards)
    await rounds.begin()
    for number in range(1, n_rounds + 1):

        async def once(number):
            rounds.networks = rounds.renewed((await rounds.work(number)).states)

        await rounds.run(partial(once, number))
    await rounds.release()
    return rounds.networks["c0"].state.params


@pytest.mark.usefixtures("workers_share")
async def test_rows_in_time_order_are_all_trained_on_at_the_end(tmp_path):
    async with running(tmp_path, 2) as w:
        prepared = await prepare_training(w.cluster, w.train_request(**ORDERED), 0)
        data = prepared.data
        assert len(data.whole) == N > len(data.parts["train"])
        expected = await trained_on(w, data.whole, data, prepared, 3)
        training = await w.train(**ORDERED)
        assert training.refit.state == "done"
        assert training.refit.rows == N
        assert training.refit.rounds == training.result.served_round
        assert training.result.served_round == 3  # else `expected` is another training
        assert np.array_equal(params(w), expected)
        entry = (await w.ledger("version"))[-1]
        assert (entry["rule"], entry["model_version"]) == ("refit", w.committed.version)
        assert training.refit.model_version == w.committed.version
        assert training.refit.evaluated_version == w.committed.version - 1


async def test_what_was_measured_is_of_the_version_before_and_said_so(tmp_path):
    async with running(tmp_path / "with", 2) as w:
        await w.train(**ORDERED)
        status, reply = await w.status(), await w.predict()
    async with running(tmp_path / "without", 2) as w:
        await w.train(**ORDERED, refit=False)
        plain = await w.status()
        assert plain.training.refit is None
        assert (await w.ledger("version"))[-1]["rule"] != "refit"
        assert not any("refit" in text for text in plain.warnings)
    assert status.evaluation == plain.evaluation
    assert status.global_accuracy == plain.global_accuracy
    for warnings in (status.warnings, reply.warnings):
        assert any("once more on every row (refit)" in text for text in warnings)


async def test_rows_without_an_order_are_trained_on_again_only_when_it_is_asked_for(tmp_path):
    async with running(tmp_path, 1) as w:
        unordered = (await prepare_training(w.cluster, w.train_request(), 0)).data
        assert planned_refit(unordered) is None
        assert (await w.train()).refit is None
        training = await w.train(refit=True)
        assert (training.config.refit, training.refit.state) == (True, "done")


async def test_a_later_training_starts_from_weights_that_have_not_seen_its_test_rows(tmp_path):
    async with running(tmp_path, 1) as w:
        first = await w.train(**ORDERED)
        (evaluated,) = (await evaluated_networks(w.cluster)).values()
        assert not np.array_equal(evaluated.state.params, params(w))
        second = await w.train(**ORDERED, refit=False)
        assert second.advance.digest_before == evaluated.digest != first.advance.digest_after
        numbers = [entry["version"] for entry in await w.ledger("version")]
        assert numbers == list(range(1, len(numbers) + 1))
        assert w.committed.evaluated == {}


async def test_evaluated_weights_outlive_the_server(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.train(**ORDERED)
        (before,) = (await evaluated_networks(w.cluster)).values()
        (after_refit,) = w.committed.networks.values()
        assert before.state.opt_step > 0, "Adam's next step would be corrected as its first"
        assert before.state.opt_step != after_refit.state.opt_step
        cluster_id, report = w.cluster_id, (await w.status()).training.refit
    async with (
        linear_runtime() as runtime,
        Engine.open(Settings(state_dir=tmp_path), runtime=runtime) as engine,
    ):
        cluster = engine.cluster(cluster_id)
        (after,) = (await evaluated_networks(cluster)).values()
        assert after.digest == before.digest
        assert after.state.opt_step == before.state.opt_step
        assert after.state.params.tobytes() == before.state.params.tobytes()
        assert cluster.state.latest_training.refit == report


async def test_a_refit_that_fails_leaves_the_evaluated_version_and_says_why(tmp_path, monkeypatch):
    async def refuse(*_):
        raise RoundFailed("not this time")

    monkeypatch.setattr(retraining, "commit_refit", refuse)
    async with running(tmp_path, 1) as w:
        await w.engine.train(w.train_request(**ORDERED))
        run = w.cluster.run
        while run.training.phase != "refit":
            await w.cluster.changes.wait_beyond(w.cluster.changes.count)
        before = w.committed
        await run.ended.wait()
        assert run.training.status == "completed"
        assert run.training.refit.state == "failed"
        assert "not this time" in run.training.refit.error
        assert w.committed is before
        assert run.training.result.model_version == before.version


async def test_a_training_that_is_stopped_in_its_refit_keeps_the_evaluated_version(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.engine.train(w.train_request(**ORDERED))
        run = w.cluster.run
        while run.training.phase != "refit":
            await w.cluster.changes.wait_beyond(w.cluster.changes.count)
        evaluated = w.committed.version
        run.stop()
        await run.ended.wait()
        assert (run.training.status, run.training.refit.state) == ("stopped", "failed")
        assert "stopped before it was done" in run.training.refit.error
        assert w.committed.version == evaluated
        assert (await w.predict()).model_version == evaluated


async def test_every_fold_has_a_model_of_its_own_trained_on_what_came_before(tmp_path):
    """The relation turns round in the middle: folds on both sides of it show that, an average would not."""
    walked = {"dataset": series(flip=200), "target": "y", "folds": 5, "epochs": 20}
    async with running(tmp_path, 1) as w:
        training = await w.train(**walked)
        folds = training.folds
        assert [fold.fold for fold in folds] == [1, 2, 3, 4, 5]
        assert [fold.error for fold in folds] == [None] * 5
        sizes = [fold.train_rows for fold in folds]
        assert sizes == sorted(set(sizes))
        assert folds[0].begins < folds[0].ends < folds[1].begins < folds[-1].begins < folds[-1].ends
        # Blocks of 50 rows: tests of folds 1 to 3 end before row 200, that of fold 4 begins there.
        assert all(fold.accuracy > 0.9 and fold.skill is not None for fold in folds[:3])
        assert folds[3].accuracy < 0.3
        status = await w.status()
        assert status.training.folds == folds
        assert folds[4].accuracy == status.global_accuracy
        assert folds[4].rmse == status.evaluation.rmse


async def test_the_score_of_a_fold_is_that_of_a_training_on_its_rows_alone(tmp_path):
    walked = {"dataset": series(), "target": "y", "folds": 3, "epochs": 4}
    async with running(tmp_path / "folds", 1) as w:
        prepared = await prepare_training(w.cluster, w.train_request(**walked), 0)
        fold, whole = prepared.data.folds[0], prepared.data.whole
        parts = {"train": whole.at(fold.train), "test": whole.at(fold.test)}
        schema, parts = rescaled(prepared.data.schema, parts)
        expected = await trained_on(w, parts["train"], prepared.data, prepared, 4)
        test = parts["test"]
        (score, *_) = (await w.train(**walked)).folds
        error = test.x.reshape(len(test), -1) @ expected[:3] + expected[3] - test.y
        sd = schema.target_sd
        assert score.best_round == 4  # else `expected` is another training
        assert score.rmse == pytest.approx(float(np.sqrt(np.mean(error**2))) * sd, rel=1e-4)
        assert score.test_rows == len(test)


async def test_folds_of_a_training_that_goes_on_from_trained_weights_are_not_scored(tmp_path):
    """Their test rows are training rows of the weights that they would start from."""
    async with running(tmp_path, 1) as w:
        await w.train(**ORDERED, refit=False)
        training = await w.train(**ORDERED, folds=3, refit=False)
        assert training.status == "completed"
        *earlier, last = training.folds
        assert ["weights of an earlier one" in fold.error for fold in earlier] == [True, True]
        assert [fold.accuracy for fold in earlier] == [None, None]
        assert last.error is None


async def test_a_server_that_ends_in_the_refit_loses_no_fold_and_no_progress(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.engine.train(w.train_request(**ORDERED, folds=3))
        run = w.cluster.run
        while run.training.percent <= 75:  # until a round of the refit is done
            await w.cluster.changes.wait_beyond(w.cluster.changes.count)
        version, folds = w.committed.version, list(run.training.folds)
        (row,) = (await w.engine.context.store.load()).trainings
        after = training_of(row, [])
        after.interrupt("then", version)
        assert (after.folds, after.percent) == (folds, 75)
        assert len(folds) == 3
        assert after.error == (
            f"interrupted: the server ended in the refit after the rounds; version {version} stays in"
            " force, as it was evaluated"
        )
        assert after.refit.state == "failed"


async def test_progress_counts_folds_and_refit_and_never_goes_back(tmp_path):
    seen, phases = [], []
    async with running(tmp_path, 1) as w:
        await w.engine.train(w.train_request(**ORDERED, folds=3))
        training, run = w.cluster.state.latest_training, w.cluster.run
        while not run.ended.is_set():
            seen.append(training.percent)
            phase = training.progress().phase
            if phase not in (None, *phases[-1:]):
                phases.append(phase)
            await w.cluster.changes.wait_beyond(w.cluster.changes.count)
        assert phases == ["rounds", "folds", "refit"]
        assert seen == sorted(seen)
        assert max(p for p in seen if p < 100) < 99.995
        assert training.percent == 100.0
        assert training.progress().phase is None


async def test_nothing_of_folds_and_refit_is_left_in_the_nodes(tmp_path):
    services = []

    def make(spec):
        services.append((spec.slot, LinearService()))
        return services[-1][1]

    async with running(tmp_path, 2, service=make) as w:
        await w.train(**ORDERED, folds=3)
        members = [service for slot, service in services if slot in w.slots.names()]
        kept = {key.partition(":")[0] for service in members for key in service.regions}
        assert not kept & {"shard", "publish", "base", "weights", "evaluate", "part", "fold-1"}
        assert [slot.last_error for slot in w.slots] == [None, None]


def test_a_refit_is_refused_where_rounds_were_taken_back_on_the_way():
    one = training()
    again = Retraining(None, one, None, {}, None)
    one.steering = Steering(learning_rate=0.03, diverged=1, rates=((7, 0.03),))
    again._refuse_detour(6)
    with pytest.raises(RoundFailed, match="taken back"):
        again._refuse_detour(7)
    one.steering = Steering(learning_rate=0.05, rates=((7, 0.05),))
    again._refuse_detour(7)
