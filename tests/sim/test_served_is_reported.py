"""What status reports of a model is what predict serves: each number again, from the replies of predict."""

import numpy as np
import pytest

from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.settings import Settings
from tests.sim.simulated import world

SEED = 3
WIDE = ({"type": "dense", "units": 64, "activation": "relu"}, {"type": "dense", "units": 1})
NARROW = ({"type": "dense", "units": 4, "activation": "tanh"}, {"type": "dense", "units": 1})
MODES = ("mean", "majority", "weighted", "ensemble")


def overlapping(task, rows=2400):
    """Noisy rows, so that the best decision is far from sure and calibration has something to move."""
    draw = np.random.Generator(np.random.PCG64(11))
    x = np.round(draw.standard_normal((rows, 3)), 5)
    noise = draw.standard_normal(rows)
    if task == "regression":
        y = np.round(5.0 + 2.0 * x[:, 0] + noise, 5)
    elif task == "binary":
        y = (x[:, 0] + 1.5 * noise > 0.9).astype(int)
    else:
        y = np.digitize(x[:, 0] + noise, [-0.5, 1.0])
    return {"X": x.tolist(), "y": y.tolist()}


def test_rows(data, state_dir):
    """The records and labels that the cluster of this seed keeps for its test."""
    seed = seed64((SEED, 0), 0, "", 0, "partition")
    made = prepare(DataRequest(data, seed=seed), Settings(state_dir=state_dir))
    x = np.array(data["X"])
    mean = np.array([column.mean[0] for column in made.schema.columns])
    sd = np.array([column.sd[0] for column in made.schema.columns])
    scaled = ((x - mean) / sd).astype("f4")
    where = [int(np.abs(scaled - row).sum(axis=1).argmin()) for row in made.parts["test"].x]
    assert len(set(where)) == len(where)
    return x[where].tolist(), np.array(data["y"])[where]


test_rows.__test__ = False


def layers_for(outputs, layers):
    return (*layers[:-1], {"type": "dense", "units": outputs})


async def trained(w, task, *, one_group, **more):
    cluster = await w.cluster(0, seed=SEED)
    outputs = 3 if task == "multiclass" else 1
    for layers in (WIDE, WIDE if one_group else NARROW, WIDE):
        await w.deploy(cluster, layers=layers_for(outputs, layers))
    hard = {"epochs": 6, "learning_rate": 0.05, "batch_size": 32}
    if task == "binary":  # far from trained, so that calibration has much to correct
        hard |= {"epochs": 1, "learning_rate": 0.001}
    status = await w.train(cluster, overlapping(task), **hard | more)
    assert status.training_status == "completed", status.training_error
    return cluster, status


async def served(w, cluster, records, mode):
    parts = [records[start : start + 100] for start in range(0, len(records), 100)]
    replies = [await w.predict(cluster, part, aggregation=mode) for part in parts]
    assert not any(reply.degraded for reply in replies)
    return replies


def joined(replies, field):
    return [value for reply in replies for value in getattr(reply, field)]


def ece_of(confidence, hits, bins=15):
    total = 0.0
    for low in range(bins):
        inside = (confidence > low / bins) & (confidence <= (low + 1) / bins)
        total += abs(confidence[inside].sum() - hits[inside].sum())
    return total / len(hits)


def decided_by(replies):
    return np.array([int(label) for label in joined(replies, "decision")])


def of_classes(task, mode, replies, y):
    """Accuracy, log loss, Brier score and calibration error by their textbook formulas."""
    decided = decided_by(replies)
    if task == "binary":
        positive = replies[0].positive_class
        one = np.array(joined(replies, "predictions"))
        p = np.stack([1 - one, one] if positive == 1 else [one, 1 - one], axis=1)
        brier = np.mean((one - (y == positive)) ** 2)
    else:
        p = np.array(joined(replies, "probabilities"))
        brier = np.mean(((p - np.eye(3)[y]) ** 2).sum(axis=1))
    hits = decided == y
    if mode == "majority":  # shares of votes are no probabilities
        ece = ece_of(np.array(joined(replies, "confidences")), hits)
        return {"accuracy": hits.mean(), "log_loss": None, "brier": None, "ece": ece}
    return {
        "accuracy": hits.mean(),
        "log_loss": -np.log(p[np.arange(len(y)), y]).mean(),
        "brier": brier,
        "ece": ece_of(p[np.arange(len(y)), decided], hits),
    }


def of_sets(replies, y):
    """Coverage and mean size of the prediction sets."""
    sets = joined(replies, "prediction_set")
    inside = [label in own for label, own in zip(y.tolist(), sets, strict=True)]
    return {"coverage": np.mean(inside), "size": np.mean([len(own) for own in sets])}


def of_intervals(replies, y):
    """Coverage and mean width of the intervals."""
    held = joined(replies, "interval")
    inside = [one.low <= value <= one.high for one, value in zip(held, y, strict=True)]
    return {"coverage": np.mean(inside), "size": np.mean([one.high - one.low for one in held])}


def of_values(replies, y):
    error = np.array(joined(replies, "predictions")) - y
    rmse = np.sqrt(np.mean(error**2))
    return {"mae": np.abs(error).mean(), "rmse": rmse, "r2": 1 - rmse**2 / y.var()}


BALANCED = {"class_weight": "balanced"}
UNDONE = {"epochs": 10, "learning_rate": 0.0005}
"""So that each worker gains by training on by itself, and answers with weights of its own."""
WISHES = [
    *[(task, one, {}) for task in ("binary", "multiclass", "regression") for one in (True, False)],
    ("binary", True, {"threshold": 0.3}),
    ("binary", False, {"threshold": 0.75, "positive_class": 0}),
    ("binary", False, BALANCED),
    ("multiclass", False, BALANCED),
    *[(task, True, UNDONE) for task in ("binary", "multiclass", "regression")],
]


def named(value):
    if isinstance(value, dict):
        return " ".join(f"{name} {of}" for name, of in value.items()) or "plain"
    return {True: "one network", False: "two networks"}.get(value, value)


@pytest.mark.parametrize(("task", "one_group", "wish"), WISHES, ids=named)
async def test_every_reported_number_is_that_of_the_replies(tmp_path, task, one_group, wish):
    async with world(tmp_path / "engine") as w:
        cluster, status = await trained(w, task, one_group=one_group, **wish)
        records, y = test_rows(overlapping(task), tmp_path)
        evaluation = status.evaluation
        assert status.training.personalisation.kept == (wish == UNDONE)
        assert evaluation.test_rows == len(y)
        assert set(evaluation.by_aggregation) == set(MODES)
        for mode in MODES:
            replies = await served(w, cluster, records, mode)
            found = (
                of_values(replies, y)
                if task == "regression"
                else of_classes(task, mode, replies, y)
            )
            found |= (of_intervals if task == "regression" else of_sets)(replies, y)
            reported = evaluation.by_aggregation[mode]
            assert reported.keys() == found.keys()
            for name, value in found.items():
                expected = None if value is None else pytest.approx(value, rel=1e-4, abs=1e-6)
                assert reported[name] == expected, (mode, name)
            if mode == evaluation.aggregation and task != "regression":
                assert_per_class(evaluation, decided_by(replies), y)
            if task == "binary":
                if wish != UNDONE:
                    assert replies[0].calibrated == (mode != "majority") or not one_group
                assert_decided_at(wish, mode, replies, evaluation)
        of_default = evaluation.by_aggregation[evaluation.aggregation]
        assert evaluation.conformal.coverage == of_default["coverage"]
        assert evaluation.conformal.calibration_rows == 120
        default = (await w.predict(cluster, records[0])).aggregation
        assert evaluation.aggregation == default == "mean"
        if task == "regression":
            assert (evaluation.rmse, evaluation.r2) == (of_default["rmse"], of_default["r2"])
            return
        assert evaluation.confidence.n == len(y)
        assert evaluation.confidence.ece == pytest.approx(of_default["ece"])
        assert status.global_accuracy == of_default["accuracy"]
        assert status.global_loss == evaluation.log_loss == of_default["log_loss"]
        assert evaluation.ensemble_accuracy == evaluation.by_aggregation["ensemble"]["accuracy"]


def assert_per_class(evaluation, decided, y):
    """Confusion, recall, precision and F1 again, of the decisions of the replies."""
    labels = [one.label for one in evaluation.per_class]
    counts = [
        [int(((y == true) & (decided == given)).sum()) for given in labels] for true in labels
    ]
    assert evaluation.confusion == counts
    recalls = []
    for one in evaluation.per_class:
        hits = int(((y == one.label) & (decided == one.label)).sum())
        rows, given = int((y == one.label).sum()), int((decided == one.label).sum())
        recalls.append(hits / rows)
        assert one.recall == pytest.approx(hits / rows)
        assert one.precision == (pytest.approx(hits / given) if given else None)
        assert one.f1 == pytest.approx(2 * hits / (rows + given))
    assert evaluation.balanced_accuracy == pytest.approx(np.mean(recalls))


def assert_decided_at(wish, mode, replies, evaluation):
    """Every decision follows from the numbers of its reply and the threshold that it names."""
    threshold = evaluation.threshold
    if "class_weight" not in wish:
        assert threshold == wish.get("threshold", 0.5)
    else:
        assert 0.1 < threshold < 0.4, "no class is rare, so nothing is shown"
    positive = wish.get("positive_class", 1)
    assert {reply.threshold for reply in replies} == {threshold}
    assert {reply.positive_class for reply in replies} == {positive, evaluation.positive_class}
    of_nodes = np.concatenate([list(reply.node_predictions.values()) for reply in replies], axis=1)
    one = np.array(joined(replies, "predictions"))
    votes = (of_nodes >= threshold).mean(axis=0)
    follows = votes > 0.5 if mode == "majority" else one >= threshold
    assert (decided_by(replies) == positive).tolist() == follows.tolist()
    if mode == "mean" and threshold != 0.5:
        assert ((one >= threshold) != (one >= 0.5)).any(), "no decision was moved: nothing is shown"


async def test_nodes_that_all_answer_the_same_agree_with_their_answer_after_calibration(tmp_path):
    async with world(tmp_path / "engine") as w:
        cluster, _ = await trained(w, "binary", one_group=True)
        records, _ = test_rows(overlapping("binary"), tmp_path)
        turned = 0
        for record in records:
            reply = await w.predict(cluster, record)
            assert reply.calibrated
            assert reply.consensus == 1.0
            assert list(reply.node_predictions.values()) == [pytest.approx(reply.prediction)] * 3
            turned += (reply.prediction >= 0.5) != (reply.raw_prediction >= 0.5)
        assert turned, "no decision was moved by calibration, so nothing was shown"


def a_walk(rows=400):
    """A random walk by the hour: nothing beats its last value, and a small network is far from it."""
    draw = np.random.Generator(np.random.PCG64(5))
    steps = np.cumsum(draw.standard_normal(rows))
    hours = [f"2024-01-{1 + t // 24:02d}T{t % 24:02d}:00:00Z" for t in range(rows)]
    rows = [[hours[t], float(draw.standard_normal()), float(v)] for t, v in enumerate(steps)]
    return {"columns": ["time", "noise", "level"], "rows": rows}


async def test_a_model_that_loses_to_the_last_value_says_so_in_status_and_predict(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        status = await w.train(cluster, a_walk(), target="level", epochs=2)
        evaluation = status.evaluation
        assert evaluation.best_baseline == "last_value"
        assert evaluation.skill < 0
        assert evaluation.rmse > evaluation.baselines["last_value"]
        reply = await w.predict(cluster, {"noise": 0.1})
        for warnings in (status.warnings, reply.warnings):
            (said,) = [text for text in warnings if "not better than the baseline" in text]
            assert "'last_value'" in said


async def test_a_model_that_beats_all_baselines_is_not_warned_of(tmp_path):
    ring = {"X": [], "y": []}
    draw = np.random.Generator(np.random.PCG64(6))
    for angle in draw.uniform(0, 2 * np.pi, 300):
        inside = len(ring["y"]) % 2
        radius = 0.5 if inside else 2.0
        ring["X"].append([round(radius * np.cos(angle), 4), round(radius * np.sin(angle), 4)])
        ring["y"].append(inside)
    async with world(tmp_path) as w:
        cluster = await w.cluster(0)
        for _ in range(2):
            await w.deploy(cluster, layers=WIDE)
        status = await w.train(cluster, ring, epochs=15, learning_rate=0.05)
        assert status.global_accuracy > 0.9
        assert status.evaluation.baselines["linear"] < 0.8
        assert status.evaluation.skill > 0.5
        reply = await w.predict(cluster, [0.1, 0.1])
        assert not any("baseline" in text for text in (*status.warnings, *reply.warnings))
        assert [c.rows for c in status.evaluation.per_class] == [30, 30]
