"""The effective class_weight, threshold and positive_class of a training, or one clear refusal."""

from types import SimpleNamespace

import numpy as np
import pytest

from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.training.decision import check_class_weight, decide_how
from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.kernels.decision import DecisionRule
from tests.unit.engine.building import schema

Y = np.array([0] * 9 + [1])


def request(**more):
    return TrainRequest(cluster_id="c", dataset="d", **more)


def decided(task="binary", y=Y, classes=None, **more):
    of = schema(task)
    if classes is not None:
        of = of.model_copy(update={"classes": classes})
    data = SimpleNamespace(schema=of, parts={"train": SimpleNamespace(y=np.asarray(y, "f4"))})
    asked = request(**more)
    check_class_weight(asked)
    return decide_how(asked, data)


def test_without_a_wish_the_most_probable_class_is_decided():
    found = decided()
    assert found.rule == DecisionRule(0.5, ())
    assert (found.class_weight, found.threshold, found.positive_class) == (None, 0.5, 1)
    assert found.warnings == []
    assert decided("regression").threshold is None
    assert decided("multiclass").positive_class is None


@pytest.mark.parametrize("word", ["balanced", " Balanced "])
def test_balanced_weighs_by_the_training_rows_of_the_whole_data_set(word):
    found = decided(class_weight=word)
    assert found.rule.class_weight == pytest.approx((10 / 18, 5.0))
    assert found.class_weight == {"0": pytest.approx(10 / 18), "1": 5.0}
    assert found.threshold == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ({"1": 3}, (1.0, 3.0)),
        ({"1": 3, "0": 0.5}, (0.5, 3.0)),
        ({"1.0": "3"}, (1.0, 3.0)),
        ({"true": 3, "false": 2}, (2.0, 3.0)),
        ('{"1": 3}', (1.0, 3.0)),
    ],
)
def test_weights_are_given_by_label_and_a_class_that_is_not_named_counts_once(given, weights):
    assert decided(class_weight=given).rule.class_weight == weights


def test_a_threshold_of_ones_own_wins_over_that_of_the_weights_and_this_is_said():
    found = decided(class_weight={"1": 3}, threshold=0.4)
    assert (found.threshold, found.rule) == (0.4, DecisionRule(0.4, (1.0, 3.0)))
    (told,) = found.warnings
    assert "threshold 0.4 replaces 0.25" in told
    (told,) = decided(class_weight={"1": 3}).warnings
    assert "1 is decided from P(1) >= 0.25 on" in told
    assert "train_loss is the mean over rows of weight x loss" in told
    assert decided(threshold=0.4).warnings == []


def test_of_more_classes_the_weights_decide():
    found = decided("multiclass", [0, 1, 2, 2], class_weight="balanced")
    assert found.rule.class_weight == pytest.approx((4 / 3, 4 / 3, 2 / 3))
    assert (found.threshold, found.positive_class) == (None, None)
    assert "largest weight x probability" in found.warnings[0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("auto", "class_weight is 'auto'"),
        ("[1, 2]", "class_weight is"),
        ("{", "class_weight is"),
        ({}, "class_weight is 'empty'"),
        ({"1": 0}, "class_weight of '1' is 0; a weight is a number from 1e-06 to 1e"),
        ({"0": 0, "1": 0}, "class_weight of '0' is 0;"),
        ({"1": -2}, "of '1' is -2;"),
        ({"1": float("nan")}, "of '1' is nan;"),
        ({"1": float("inf")}, "of '1' is inf;"),
        ({"1": 1e300}, "of '1' is 1e.300;"),
        ({"1": "much"}, "of '1' is much;"),
        ({"1": None}, "of '1' is None;"),
        ({"1": True}, "of '1' is True;"),
        ({"1": [2]}, "of '1' is "),
        ('{"1": NaN}', "of '1' is nan;"),
        ('{"1": ' + "9" * 400 + "}", "of '1' is 999"),
    ],
)
def test_weights_that_no_data_make_right_are_refused_at_once(given, told):
    with pytest.raises(InvalidArguments, match=told):
        check_class_weight(request(class_weight=given))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"2": 3}, "'2' is no class of target"),
        ({"1": 3, "1.0": 4}, "'1.0' names a class of target '.*' a second time"),
    ],
)
def test_a_label_that_is_no_class_is_answered_with_those_there_are(given, told):
    with pytest.raises(InvalidArguments, match=told) as refused:
        decided(class_weight=given)
    assert refused.value.hint == "its classes are 0, 1"


def test_labels_are_those_of_the_data():
    found = decided(classes=["no", "yes"], class_weight={"Yes": 3})
    assert found.class_weight == {"no": 1.0, "yes": 3.0}
    assert "'yes' is decided from P(yes) >= 0.25 on" in found.warnings[0]


@pytest.mark.parametrize(
    ("task", "wish", "told"),
    [
        ("regression", {"class_weight": "balanced"}, "target '.*' has numbers"),
        ("regression", {"threshold": 0.3}, "has numbers"),
        ("multiclass", {"threshold": 0.3}, "threshold=0.3 .* has 3 classes"),
    ],
)
def test_a_wish_that_the_task_cannot_follow_is_refused(task, wish, told):
    with pytest.raises(InvalidArguments, match=told):
        decided(task, y=[0, 1, 2], **wish)
