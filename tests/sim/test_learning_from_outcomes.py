"""Drift is found, a model learns from outcomes, and answers only if it is better."""

import anyio.lowlevel
import numpy as np
import pytest

from flow_nexus_neural.engine.storage.prepared_data import read_prepared
from flow_nexus_neural.engine.training.start import learn_from_feedback
from flow_nexus_neural.errors import DataTooSmall, InvalidArguments, NotTrained
from tests.sim.simulated import blobs, world

pytestmark = pytest.mark.anyio

WELL = {"epochs": 6, "learning_rate": 0.1}


async def told_of(w, workers, **more):
    """A cluster that records outcomes, and is not autonomous enough to learn from them unasked."""
    cluster = await w.cluster(0, daa_enabled=True, **more)
    for _ in range(workers):
        await w.deploy(cluster, autonomy=0.75)
    return cluster


def records(n, seed, *, flipped=False, shift=0.0):
    data = blobs(n, seed)
    return [
        {
            **{f"f{k}": value + shift for k, value in enumerate(x)},
            "expectedOutcome": 1 - y if flipped else y,
        }
        for x, y in zip(data["X"], data["y"], strict=True)
    ]


async def told(w, cluster, rows):
    """Send records with their outcomes; the share of them that was decided rightly."""
    reply = await w.predict(cluster, rows)
    assert reply.feedback_recorded == len(rows)
    right = [
        str(row["expectedOutcome"]) == decided
        for row, decided in zip(rows, reply.decision, strict=True)
    ]
    return sum(right) / len(right)


async def learnt(w, cluster, **more):
    await w.start(cluster, "feedback", federated=False, **more)
    return await w.done(cluster)


async def test_labels_that_flip_are_found_once_and_accuracy_recovers(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster, **WELL)
        assert await told(w, cluster, records(200, 1)) > 0.85
        calm = (await w.status(cluster)).feedback.drift
        assert (calm.found, calm.drifts, calm.errors_window) == (False, 0, 200)
        assert calm.errors_mean < 0.2
        assert await told(w, cluster, records(200, 2, flipped=True)) < 0.2
        status = await w.status(cluster)
        drift = status.feedback.drift
        assert (drift.found, drift.drifts) == (True, 1)
        assert drift.errors_mean > 0.6
        assert drift.errors_window < 230
        assert any(warning.startswith("drift: errors have risen") for warning in status.warnings)
        before = status.model_version
        status = await learnt(w, cluster, **WELL)
        assert status.training_status == "completed", status.training_error
        learning = status.training.learning
        assert learning.admitted, learning.reason
        assert learning.loss_after < learning.loss_before
        assert learning.replayed == 0  # what was true before is wrong now
        assert status.model_version == before + 1
        assert status.dataset_info.name == "feedback"
        assert status.evaluation.test_rows == learning.held_out
        assert await told(w, cluster, records(100, 3, flipped=True)) > 0.8
        drift = (await w.status(cluster)).feedback.drift
        assert (drift.found, drift.drifts, drift.errors_window) == (False, 1, 100)
        line = (await w.status(cluster, detail="versions")).versions[0]
        assert (line.rule, line.serving) == ("feedback", True)


async def test_a_model_that_is_no_better_is_refused_and_the_former_one_answers_on(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster, **WELL)
        await told(w, cluster, records(120, 1))
        before, reply = await w.status(cluster), await w.predict(cluster)
        status = await learnt(w, cluster, epochs=3, learning_rate=1e-5)
        assert status.training_status == "completed", status.training_error
        learning = status.training.learning
        assert (learning.admitted, learning.reason[:7]) == (False, "refused")
        assert learning.replayed > 0
        assert status.model_version == before.model_version
        assert status.evaluation == before.evaluation
        again = await w.predict(cluster)
        assert (again.prediction, again.bundle_sha) == (reply.prediction, reply.bundle_sha)
    async with world(tmp_path) as w:
        status = await w.status(cluster)
        assert status.training.learning == learning
        assert len(status.history) == 3


async def test_the_model_in_force_answers_until_the_new_one_is_admitted(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster, **WELL)
        await told(w, cluster, records(200, 2, flipped=True))
        before = await w.predict(cluster)
        live = w.engine.cluster(cluster)
        await w.start(cluster, "feedback", federated=False, **WELL)
        versions = set()
        while live.run is not None:
            versions.add((await w.predict(cluster)).model_version)
        after = await w.predict(cluster)
        assert len(live.state.latest_training.history) > 1
        assert versions <= {before.model_version, after.model_version}
        assert after.model_version == before.model_version + 1


async def test_a_training_on_outcomes_goes_on_when_its_server_comes_back(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster, **WELL)
        await told(w, cluster, records(200, 2, flipped=True))
        before = (await w.predict(cluster)).model_version
        await w.start(cluster, "feedback", federated=False, **WELL)
        await anyio.lowlevel.checkpoint()
    async with world(tmp_path) as w:
        status = await w.done(cluster)
        assert status.training_status == "completed", status.training_error
        assert status.training.resumed is not None
        assert status.training.learning.admitted
        assert status.model_version == before + 1
        assert len({point.round for point in status.history}) == len(status.history)


async def test_autonomy_has_one_call_that_starts_it(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster)
        await told(w, cluster, records(60, 1))
        report_version = (await w.status(cluster)).model_version
        report = await learn_from_feedback(w.engine.cluster(cluster))
        assert (report.dataset_info.kind, report.dataset_info.name) == ("feedback", "feedback")
        await w.terminate(cluster, training_id=report.training_id)
        status = await w.status(cluster)
        assert (status.training_status, status.model_version) == ("stopped", report_version)


async def test_former_rows_are_half_of_what_it_learns_from_and_stay_to_be_replayed(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster, blobs(240), **WELL)
        await told(w, cluster, records(100, 1))
        await learnt(w, cluster, epochs=1)
        training = w.engine.cluster(cluster).state.latest_training
        data = read_prepared(w.engine.context.checkpoints, training.data)
        split = data.description.split
        assert (split["train"], split["select"], split["test"]) == (120, 15, 25)
        assert data.replayed == 60
        former = len(data.replay) - 60
        assert former > 100  # all training rows of the first training


async def test_without_enough_outcomes_nothing_is_learnt(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        with pytest.raises(NotTrained, match="no model whose predictions"):
            await w.start(cluster, "feedback")
        await w.train(cluster)
        await told(w, cluster, records(49, 1))
        with pytest.raises(DataTooSmall, match="49 outcomes are recorded"):
            await w.start(cluster, "feedback")
        with pytest.raises(InvalidArguments, match="horizon has no effect"):
            await w.start(cluster, "feedback", horizon=2)
        assert (await w.status(cluster)).training_status == "completed"


async def test_inputs_that_move_are_found_and_named(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster, blobs(600), **WELL)
        await told(w, cluster, records(100, 1))
        few = (await w.status(cluster)).feedback.drift
        assert (few.input_index, few.input_why) == (None, "100 of 200 recorded inputs")
        await told(w, cluster, records(200, 2))
        calm = (await w.status(cluster)).feedback.drift
        assert calm.input_rows == 300
        assert calm.input_index < 0.25
        await told(w, cluster, records(300, 3, shift=2.0))
        status = await w.status(cluster)
        assert status.feedback.drift.input_index > 0.25
        assert status.feedback.drift.input_column in ("f0", "f1", "f2")
        assert any("are not like the training rows" in warning for warning in status.warnings)
    async with world(tmp_path) as w:
        again = (await w.status(cluster)).feedback.drift
        assert again.input_index == status.feedback.drift.input_index


async def test_of_outcomes_by_chance_it_learns_that_nothing_is_known(tmp_path):
    async with world(tmp_path) as w:
        cluster = await told_of(w, 2)
        await w.train(cluster, **WELL)
        draw = np.random.Generator(np.random.PCG64(4)).integers(0, 2, 200).tolist()
        rows = [{**row, "expectedOutcome": y} for row, y in zip(records(200, 1), draw, strict=True)]
        await told(w, cluster, rows)
        status = await learnt(w, cluster, **WELL)
        assert status.training.learning.loss_after > 0.6
        assert 0.3 < status.global_accuracy < 0.75
