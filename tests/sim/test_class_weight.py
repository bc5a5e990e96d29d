"""Classes that count more in a training, and classes that are decided from another probability on."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import Train
from tests.sim.simulated import blobs, world

LAYERS = ({"type": "dense", "units": 8, "activation": "relu"}, {"type": "dense", "units": 1})
RARE = {"federated": False, "epochs": 12, "batch_size": 32, "learning_rate": 0.02}
FEDERATED = {"federated": True, "partition": "dirichlet:0.1", "clients_per_round": 3}


def rare(rows, labels=(0, 1)):
    """Rows of which about one in fifteen is of the second class, and none can be told for sure."""
    draw = np.random.Generator(np.random.PCG64(4))
    x = np.round(draw.standard_normal((rows, 3)), 5)
    hidden = x[:, 0] + 0.5 * x[:, 1] + draw.standard_normal(rows)
    return {"X": x.tolist(), "y": [labels[int(value > 2.2)] for value in hidden]}


async def digests(w, data=None, layers=LAYERS, **more):
    """Weights digest after every round of a training of a new cluster."""
    cluster = await w.cluster(3, layers=layers, seed=3)
    status = await w.train(cluster, data, **more)
    assert status.training_status == "completed", status.training_error
    return [entry["weights_digest"] for entry in await w.versions(cluster)]


def recall(evaluation, label):
    [found] = [one.recall for one in evaluation.per_class if one.label == label]
    return found


@pytest.mark.parametrize("rows", [600, 2400], ids=["without calibration", "with calibration rows"])
async def test_a_rare_class_is_found_more_often_and_its_probability_stays_that_of_the_data(
    tmp_path, rows
):
    found = {}
    async with world(tmp_path) as w:
        for wish in (None, "balanced", {"1": 5}):
            cluster = await w.cluster(2, layers=LAYERS, seed=3)
            status = await w.train(cluster, rare(rows), class_weight=wish, **RARE)
            found[str(wish)] = status.evaluation
    plain, *weighted = found.values()
    assert recall(plain, 1) < 0.5
    for evaluation in weighted:
        assert recall(evaluation, 1) > recall(plain, 1) + 0.2
        assert evaluation.balanced_accuracy > plain.balanced_accuracy + 0.1
        # Probabilities of the weighted distribution would have a log loss of .4 and an ECE of .2.
        assert evaluation.log_loss < plain.log_loss + 0.02
        assert evaluation.ece < 0.1
        assert evaluation.auc == pytest.approx(plain.auc, abs=0.05)
        weights = evaluation.class_weight
        implied = weights["0"] / (weights["0"] + weights["1"])
        assert evaluation.threshold == pytest.approx(implied)


@pytest.mark.parametrize("strategy", [{"federated": False}, FEDERATED], ids=["local", "federated"])
async def test_one_seed_and_one_weighting_give_one_model(tmp_path, strategy):
    made = []
    for wish in ("balanced", "balanced", {"1": 5}):
        async with world(tmp_path / str(len(made))) as w:
            made.append(await digests(w, rare(200), class_weight=wish, **strategy))
    assert made[0] == made[1]
    assert not set(made[0]) & set(made[2])


@pytest.mark.parametrize("strategy", [{"federated": False}, FEDERATED], ids=["local", "federated"])
async def test_classes_that_all_count_once_give_the_bytes_of_no_weights(tmp_path, strategy):
    three = blobs(240)
    three["y"] = [value + (number % 5 == 0) for number, value in enumerate(three["y"])]
    for data, units in ((blobs(), 1), (three, 3)):
        layers = (LAYERS[0], {"type": "dense", "units": units})
        made = []
        for wish in (None, {"0": 1, "1": 1}):
            async with world(tmp_path / f"{units}{wish is None}") as w:
                made.append(await digests(w, data, layers, class_weight=wish, **strategy))
        assert made[0] == made[1]


async def test_every_worker_weighs_by_the_whole_data_set_and_not_by_its_shard(tmp_path):
    told = {}

    class Recording(NodeService):
        def handle(self, request, arrays, poll):
            if isinstance(request, Train):
                told.setdefault(self.slot, set()).add(request.class_weight)
            return super().handle(request, arrays, poll)

    def recording(spec):
        made = Recording(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)
        made.slot = spec.node_id
        return made

    async with world(tmp_path, service=recording) as w:
        cluster = await w.cluster(3, layers=LAYERS, seed=3)
        started = await w.start(cluster, rare(300), class_weight="balanced", **FEDERATED)
        await w.done(cluster)
    assert len(told) == 3
    (weights,) = set.union(*told.values())
    assert dict(zip(("0", "1"), weights, strict=True)) == started.config.class_weight
    train = started.dataset_info.split.train
    rows = [train / (2 * weight) for weight in weights]
    assert rows == pytest.approx(np.round(rows))
    assert sum(rows) == pytest.approx(train)


async def test_the_weighted_loss_is_reported_as_such_and_the_validation_loss_is_not_weighted(
    tmp_path,
):
    """At a learning rate that changes nothing, the loss is that of a network that knows nothing."""
    options = {"federated": False, "epochs": 1, "optimizer": "sgd", "learning_rate": 1e-5}
    async with world(tmp_path) as w:
        losses = []
        for wish in (None, {"0": 3, "1": 3}):
            cluster = await w.cluster(1, layers=LAYERS, seed=3)
            status = await w.train(cluster, rare(400), class_weight=wish, **options)
            losses.append((status.training.train_loss, status.training.val_loss))
    (plain, plain_val), (tripled, tripled_val) = losses
    assert tripled == pytest.approx(3 * plain, rel=1e-3)
    assert tripled_val == pytest.approx(plain_val, rel=1e-3)


async def test_the_rule_outlives_the_server_and_the_nodes(tmp_path):
    record = [1.2, 0.3, 0.0]
    async with world(tmp_path) as w:
        cluster = await w.cluster(2, layers=LAYERS, seed=3)
        await w.deploy(cluster, layers=(LAYERS[1],))
        wish = {"class_weight": {"yes": 5}, "threshold": 0.2, "positive_class": "yes"}
        before = await w.train(cluster, rare(300, ("zero", "yes")), **wish, **RARE)
        answer = await w.predict(cluster, record)
        assert (answer.threshold, answer.positive_class, answer.classes) == (
            0.2,
            "yes",
            ["zero", "yes"],
        )
    async with world(tmp_path) as w:
        after = await w.status(cluster)
        assert after.evaluation == before.evaluation
        assert after.evaluation.class_weight == {"zero": 1.0, "yes": 5.0}
        again = await w.predict(cluster, record)
        assert (again.predictions, again.decision, again.threshold) == (
            answer.predictions,
            answer.decision,
            0.2,
        )
        assert again.bundle_sha == answer.bundle_sha
        await w.terminate(cluster, node_id="worker-2")
        fewer = await w.predict(cluster, record)
        assert (fewer.threshold, fewer.nodes_expected) == (0.2, 2)


async def test_a_weighted_models_prediction_can_be_computed_again_from_the_stored_file(tmp_path):
    record = [1.2, 0.3, 0.0]
    async with world(tmp_path) as w:
        cluster = await w.cluster(1, layers=LAYERS[1:], seed=3)
        status = await w.train(cluster, rare(300), class_weight="balanced", **RARE)
        (file,) = status.serving.files.values()
        answer = await w.predict(cluster, record)
    with safe_open(tmp_path / file, "np") as stored:
        header = json.loads(stored.metadata()["flow_nexus_neural"])
        kernel, bias = (stored.get_tensor(f"layers.0.{name}") for name in ("kernel", "bias"))
    columns = header["schema"]["columns"]
    mean, sd = (np.array([c[name][0] for c in columns]) for name in ("mean", "sd"))
    logit = ((np.array(record) - mean) / sd) @ kernel[:, 0] + bias[0]
    zero, one = header["class_weight"]
    assert one > 5 * zero
    assert answer.prediction == pytest.approx(
        1 / (1 + np.exp(np.log(one / zero) - logit)), rel=1e-5
    )


async def test_the_class_that_is_called_positive_is_the_one_whose_probability_is_told(tmp_path):
    told = {}
    async with world(tmp_path) as w:
        for positive in ("no", "yes"):
            cluster = await w.cluster(1, layers=LAYERS, seed=3)
            data = rare(300, ("no", "yes"))
            status = await w.train(cluster, data, positive_class=positive, **RARE)
            answer = await w.predict(cluster, [-1.0, -1.0, 0.0])
            told[positive] = answer
            assert status.evaluation.positive_class == answer.positive_class == positive
            assert answer.classes[1] == positive
            assert answer.decision == ["no"]
            assert status.evaluation.auc > 0.8
    assert told["no"].prediction > 0.9
    assert told["yes"].prediction < 0.1


async def test_a_threshold_may_be_given_for_one_call(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2, layers=LAYERS, seed=3)
        await w.train(cluster, rare(300), **RARE)
        record = [1.2, 0.3, 0.0]
        usual = await w.predict(cluster, record)
        assert usual.decision == ["0"]
        own = await w.predict(cluster, record, threshold=usual.prediction / 2)
        assert (own.decision, own.prediction) == (["1"], usual.prediction)
        assert own.confidence == pytest.approx(usual.prediction)
        assert any("this call's threshold" in text for text in own.warnings)
        assert (await w.predict(cluster, record)).decision == ["0"]


async def test_going_on_with_another_weighting_is_warned_of(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1, layers=LAYERS, seed=3)
        for wish, warned in ((None, False), ("balanced", True), ("balanced", False), (None, True)):
            started = await w.start(cluster, rare(300), class_weight=wish, **RARE)
            await w.done(cluster)
            assert any("another class_weight" in text for text in started.warnings) == warned, wish


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"threshold": 0.3}, "threshold=0.3 decides between two classes"),
        ({"class_weight": "balanced"}, "class_weight weighs classes"),
        ({"positive_class": 1}, "positive_class='1' is one of two classes"),
    ],
)
async def test_a_wish_for_classes_is_refused_for_numbers_and_nothing_has_begun(
    tmp_path, wish, told
):
    data = blobs()
    data["y"] = [round(value + 0.37 * number, 2) for number, value in enumerate(data["y"])]
    async with world(tmp_path) as w:
        cluster = await w.cluster(1, layers=LAYERS)
        with pytest.raises(InvalidArguments, match=told) as refused:
            await w.start(cluster, data, **wish)
        assert "leave" in refused.value.hint
        assert (await w.status(cluster)).training_status == "none"
