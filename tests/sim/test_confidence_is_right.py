"""On data whose chances are known, a confidence of c is right in a share c of cases, for each aggregation."""

import numpy as np
import pytest

from flow_nexus_neural.kernels.metrics import expected_calibration_error
from tests.sim.simulated import world

MODES = ("mean", "majority", "weighted", "ensemble")
WIDE = {"type": "dense", "units": 24, "activation": "relu"}
NARROW = {"type": "dense", "units": 4, "activation": "tanh"}
STEEP = 3.0


def chances(x):
    """P(class 1) of rows: far from certain for most of them."""
    return 1 / (1 + np.exp(-(1.2 * x[:, 0] + 0.8 * x[:, 1] * x[:, 2])))


def drawn(rows, seed):
    """Rows, their chances, and labels that are drawn by them."""
    draw = np.random.Generator(np.random.PCG64(seed))
    x = np.round(draw.standard_normal((rows, 3)), 4)
    p = chances(x)
    return x, p, (draw.random(rows) < p).astype(int)


def as_data(x, y):
    return {"X": x.tolist(), "y": y.tolist()}


async def answered(w, cluster, x, mode):
    parts = [x[start : start + 500].tolist() for start in range(0, len(x), 500)]
    return [await w.predict(cluster, part, aggregation=mode, deadline_ms=9000) for part in parts]


def known_error(replies, p):
    """Calibration error against the chances themselves, so that no draw of labels blurs it."""
    confidence = np.array([c for reply in replies for c in reply.confidences])
    decided = np.array([int(label) for reply in replies for label in reply.decision])
    right = np.where(decided == 1, p, 1 - p)
    return expected_calibration_error(confidence, right), confidence, right


async def trained(w, **more):
    cluster = await w.cluster(0)
    for hidden in (WIDE, NARROW, WIDE):
        await w.deploy(cluster, layers=(hidden, {"type": "dense", "units": 1}))
    x, _, y = drawn(8000, 3)
    options = {"epochs": 4, "batch_size": 64, "learning_rate": 0.02} | more
    status = await w.train(cluster, as_data(x, y), **options)
    assert status.training_status == "completed", status.training_error
    return cluster, status


async def test_confidence_is_as_often_right_as_it_says_on_fresh_draws(tmp_path):
    x, p, _ = drawn(3000, 17)
    async with world(tmp_path) as w:
        cluster, status = await trained(w)
        for mode in MODES:
            error, confidence, right = known_error(await answered(w, cluster, x, mode), p)
            assert error < 0.03, mode
            low, high = confidence < np.quantile(confidence, 0.3), confidence > 0.8
            assert right[high].mean() - right[low].mean() > 0.2, "nothing is shown"
            told = status.evaluation.by_aggregation[mode]["ece"]
            assert told < 0.09, "of some 640 test rows, whose labels are drawn"
        found = status.evaluation.confidence
        assert found.n == sum(one.n for one in found.per_bin) == status.evaluation.test_rows
        gaps = [one.n * abs(one.confidence - one.accuracy) for one in found.per_bin]
        assert found.ece == pytest.approx(sum(gaps) / found.n)
        brief = (await w.status(cluster, detail="nodes")).evaluation
        assert brief == status.evaluation.brief != status.evaluation, "bins are for full"


async def test_whoever_exaggerates_three_times_is_seen(tmp_path):
    """The same measure of the same answers, their logits three times what they are."""
    x, p, _ = drawn(3000, 17)
    async with world(tmp_path) as w:
        cluster, _ = await trained(w)
        replies = await answered(w, cluster, x, "weighted")
    honest, confidence, right = known_error(replies, p)
    odds = STEEP * np.log(confidence / (1 - confidence))
    assert honest < 0.03
    assert expected_calibration_error(1 / (1 + np.exp(-odds)), right) > 0.06


async def test_of_several_classes_too(tmp_path):
    draw = np.random.Generator(np.random.PCG64(8))

    def rows(n):
        x = np.round(draw.standard_normal((n, 2)), 4)
        scores = np.stack([1.5 * x[:, 0], 1.5 * x[:, 1], -x[:, 0] - x[:, 1]], axis=1)
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        y = (p.cumsum(axis=1) < draw.random((n, 1))).sum(axis=1)
        return x, p, y

    async with world(tmp_path) as w:
        cluster = await w.cluster(0)
        for hidden in (WIDE, NARROW):
            await w.deploy(cluster, layers=(hidden, {"type": "dense", "units": 3}))
        x, _, y = rows(6000)
        await w.train(cluster, as_data(x, y), epochs=4, batch_size=64, learning_rate=0.02)
        x, p, _ = rows(3000)
        for mode in MODES:
            replies = await answered(w, cluster, x, mode)
            confidence = np.array([c for reply in replies for c in reply.confidences])
            decided = np.array([int(label) for reply in replies for label in reply.decision])
            right = p[np.arange(len(p)), decided]
            assert expected_calibration_error(confidence, right) < 0.03, mode
