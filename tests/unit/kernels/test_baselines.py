import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier

from flow_nexus_neural.kernels import baselines
from flow_nexus_neural.kernels.baselines import Sample, compare_classifier, compare_regressor

DRAW = np.random.Generator(np.random.PCG64(4))
X = DRAW.standard_normal((400, 5)).astype("f4")
VALUES = (X @ [1.0, -2.0, 0.5, 0, 0] + 0.3 * DRAW.standard_normal(400)).astype("f4")
CLASSES = np.digitize(X[:, 0] + 0.5 * X[:, 1], [-0.4, 0.7])


def halves(y, last=None):
    later = None if last is None else last[300:]
    return Sample(X[:300], y[:300]), Sample(X[300:], y[300:], later)


def test_values_are_compared_with_mean_median_and_a_linear_model():
    train, test = halves(VALUES)
    found = compare_regressor(train, test, sd=2.0, rmse=0.1)
    linear = Ridge(alpha=1.0).fit(X[:300], VALUES[:300]).predict(X[300:])
    constants = {"mean": VALUES[:300].mean(), "median": np.median(VALUES[:300])}
    expected = {
        name: 2.0 * np.sqrt(np.mean((answer - VALUES[300:]) ** 2))
        for name, answer in {**constants, "linear": linear}.items()
    }
    assert found.values == pytest.approx(expected, rel=1e-4)
    assert found.best == "linear"
    assert found.skill == pytest.approx(1 - (0.1 / expected["linear"]) ** 2, rel=1e-4)


def test_classes_are_compared_with_the_majority_and_a_linear_model():
    train, test = halves(CLASSES)
    found = compare_classifier(train, test, n_classes=3, accuracy=0.95)
    most = np.bincount(CLASSES[:300]).argmax()
    linear = RidgeClassifier(alpha=1.0).fit(X[:300], CLASSES[:300]).score(X[300:], CLASSES[300:])
    assert found.values["majority"] == pytest.approx(np.mean(CLASSES[300:] == most))
    assert found.values["linear"] == pytest.approx(linear)
    assert found.skill == pytest.approx((0.95 - linear) / (1 - linear))


def test_a_walk_is_best_continued_by_its_last_value():
    walk = np.cumsum(DRAW.standard_normal(400)).astype("f4")
    last = np.r_[np.nan, walk[:-1]].astype("f4")
    found = compare_regressor(*halves(walk, last), sd=1.0, rmse=2.0)
    steps = np.diff(walk)[299:]
    assert found.values["last_value"] == pytest.approx(np.sqrt(np.mean(steps**2)), rel=1e-5)
    assert found.best == "last_value"
    assert found.skill < 0


def test_a_series_that_only_begins_is_continued_by_what_is_known_of_the_others():
    last = np.full(400, np.nan, "f4")
    last[350:] = 1.0
    values = np.where(np.arange(400) < 350, 0.0, 1.0).astype("f4")
    found = compare_regressor(*halves(values, last), sd=1.0, rmse=0.5)
    assert found.values["last_value"] == pytest.approx(0.0, abs=1e-6)
    assert found.skill is None, "nothing can be better than without an error"
    unknown = compare_regressor(*halves(values, np.full(400, np.nan, "f4")), sd=1.0, rmse=0.5)
    assert "last_value" not in unknown.values


def test_the_last_class_is_a_baseline_too():
    states = np.repeat(np.arange(40) % 2, 10)
    last = np.r_[np.nan, states[:-1]].astype("f4")
    found = compare_classifier(*halves(states, last), n_classes=2, accuracy=0.5)
    assert found.values["last_value"] == pytest.approx(0.9)
    assert found.best == "last_value"


def test_sequences_are_flattened_and_what_is_too_large_is_not_computed(monkeypatch):
    steps = X.reshape(400, 5, 1)
    found = compare_regressor(
        Sample(steps[:300], VALUES[:300]), Sample(steps[300:], VALUES[300:]), sd=1.0, rmse=1.0
    )
    flat = compare_regressor(*halves(VALUES), sd=1.0, rmse=1.0)
    assert found == flat
    monkeypatch.setattr(baselines, "MAX_MULTIPLICATIONS", 100)
    small = compare_regressor(*halves(VALUES), sd=1.0, rmse=1.0)
    assert set(small.values) == {"mean", "median"}


def test_without_test_rows_nothing_is_compared():
    nothing = Sample(X[:0], VALUES[:0])
    assert compare_regressor(Sample(X, VALUES), nothing, sd=1.0, rmse=1.0) is None
    assert compare_classifier(Sample(X, CLASSES), nothing, n_classes=3, accuracy=0.0) is None
