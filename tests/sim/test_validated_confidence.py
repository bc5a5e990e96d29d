"""Validators learn how sure decisions are, and say so where that is truer than the probabilities."""

import numpy as np
import pytest

from tests.sim.simulated import world
from tests.sim.stacked import VALIDATOR

LINEAR = ({"type": "dense", "units": 1},)
NEAR, FAR = [0.5, 0.0], [3.0, 0.0]


def bent(rows=2400, seed=7, *, shuffled=False):
    """Classes that are clear near the border, and a coin's toss far from it, where a model is surest."""
    draw = np.random.Generator(np.random.PCG64(seed))
    x = np.round(draw.standard_normal((rows, 2)), 4)
    far = np.abs(x[:, 0]) > 1.0
    wrong = far & (draw.random(rows) < 0.45)
    y = (x[:, 0] > 0).astype(int) ^ wrong
    if shuffled:
        draw.shuffle(y)
    return {"X": x.tolist(), "y": y.tolist()}


async def trained(w, *, validators=1, data=None, workers=2, **more):
    cluster = await w.cluster(workers, layers=LINEAR, **more)
    for _ in range(validators):
        await w.deploy(cluster, "validator", layers=VALIDATOR)
    options = {"epochs": 3, "learning_rate": 0.05, "batch_size": 32}
    status = await w.train(cluster, data or bent(), **options)
    assert status.training_status == "completed", status.training_error
    return cluster, status


async def test_a_validator_knows_where_a_sure_model_is_wrong_and_its_death_is_told(tmp_path):
    async with world(tmp_path / "with") as w:
        cluster, status = await trained(w)
        gate = status.evaluation.roles["confidence:mean"]
        assert gate["state"] == "net"
        assert gate["rival"] - gate["own"] > gate["standard_error"]
        assert status.learnt["validator-0"]["purpose"] == "confidence"
        assert status.learnt["validator-0"]["trained"]
        assert status.serving.confidence_source == "validator"
        near, far = await w.predict(cluster, NEAR), await w.predict(cluster, FAR)
        assert (near.confidence_source, far.confidence_source) == ("validator", "validator")
        assert near.prediction < far.prediction, "the model is surer where it is wrong more often"
        assert near.confidence > far.confidence + 0.1
        w.kill("validator-0")
        await w.until(cluster, lambda s: s.failed_nodes == 1)
        alone = await w.predict(cluster, FAR)
        assert (alone.confidence_source, alone.prediction) == ("margin", far.prediction)
        assert alone.confidence == pytest.approx(alone.prediction)
        assert any("no validator answered (validator-0:" in text for text in alone.warnings)
    async with world(tmp_path / "without") as w:
        cluster, without = await trained(w, validators=0)
        assert without.serving.confidence_source == "margin"
        assert (await w.predict(cluster, FAR)).confidence_source == "margin"
        assert status.evaluation.confidence.brier < 0.85 * without.evaluation.confidence.brier


async def test_where_decisions_are_others_than_those_it_learnt_of_it_is_not_asked(tmp_path):
    async with world(tmp_path) as w:
        cluster, _ = await trained(w)
        assert (await w.predict(cluster, NEAR, threshold=0.2)).confidence_source == "margin"
        assert (
            await w.predict(cluster, NEAR, aggregation="majority")
        ).confidence_source == "margin"
        weighted = await w.predict(cluster, NEAR, aggregation="weighted")
        assert weighted.confidence_source == "validator"


async def test_shuffled_labels_make_nobody_sure(tmp_path):
    async with world(tmp_path) as w:
        cluster, status = await trained(w, data=bent(shuffled=True))
        assert status.evaluation.roles["confidence:mean"]["state"] == "fallback"
        reply = await w.predict(cluster, NEAR)
        assert reply.confidence_source == "margin"
        assert reply.confidence < 0.6


async def test_where_nodes_may_lie_a_validator_can_only_take_confidence_away(tmp_path):
    async with world(tmp_path) as w:
        cluster, _ = await trained(w, workers=4, consensus="byzantine")
        for record in (NEAR, FAR):
            reply = await w.predict(cluster, record)
            assert reply.confidence <= max(reply.prediction, 1 - reply.prediction) + 1e-9


async def test_values_have_nothing_to_be_right_about_and_the_reason_is_told(tmp_path):
    data = bent()
    data["y"] = [x[0] + 0.5 for x in data["X"]]
    async with world(tmp_path) as w:
        _, status = await trained(w, data=data)
        assert "regression" in status.learnt["validator-0"]["reason"]
        split = (await w.status(status.cluster_id)).dataset_info
        assert split.task == "regression"
