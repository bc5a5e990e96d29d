"""A fold is scaled by its own training rows, as a training on these rows alone would be."""

import numpy as np
import pytest

from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.data.rescaling import rescaled
from flow_nexus_neural.settings import Settings

N = 200


def drifting(n=N):
    """Daily rows whose input and target grow with time: later ones have another scale than early ones."""
    draw = np.random.Generator(np.random.PCG64(2))
    x = 0.1 * np.arange(n) + draw.standard_normal(n)
    days = np.datetime64("2021-01-01") + np.arange(n)
    columns = zip(days, x, draw.standard_normal(n), strict=True)
    return [{"day": str(day), "x": float(a), "tgt": float(3 * a + e)} for day, a, e in columns]


def prepared(tmp_path, rows, **more):
    asked = DataRequest(dataset=rows, target="tgt", features=("x",), task="regression", **more)
    return prepare(asked, Settings(state_dir=tmp_path))


def test_a_fold_is_scaled_as_its_rows_are_alone(tmp_path):
    data = prepared(tmp_path, drifting(), folds=3)
    fold = data.folds[0]
    parts = {"train": data.whole.at(fold.train), "test": data.whole.at(fold.test)}
    schema, found = rescaled(data.schema, parts)
    raw = np.array([row["x"] for row in drifting()])
    tgt = np.array([row["tgt"] for row in drifting()])
    own = raw[fold.train]
    assert found["train"].x[:, 0] == pytest.approx((own - own.mean()) / own.std(), abs=1e-4)
    expected = np.clip((raw[fold.test] - own.mean()) / own.std(), -6, 6)
    assert found["test"].x[:, 0] == pytest.approx(expected, abs=1e-4)
    back = found["test"].y * schema.target_sd + schema.target_mean
    assert back == pytest.approx(tgt[fold.test], abs=1e-4)
    assert schema.target_mean == pytest.approx(tgt[fold.train].mean(), abs=1e-4)
    known = found["test"].last * schema.target_sd + schema.target_mean
    assert known[1:] == pytest.approx(tgt[fold.test][:-1], abs=1e-4)


def test_what_does_not_vary_in_a_fold_becomes_0_and_stays_finite(tmp_path):
    rows = drifting()
    for row in rows[:150]:
        row["x"] = 5.0
    data = prepared(tmp_path, rows, folds=3)
    train = data.whole.at(data.folds[0].train)
    _, found = rescaled(data.schema, {"train": train})
    assert (found["train"].x == 0).all()


def test_rows_that_are_scaled_by_themselves_already_stay(tmp_path):
    data = prepared(tmp_path, drifting())
    schema, found = rescaled(data.schema, {"train": data.parts["train"]})
    assert found["train"].x == pytest.approx(data.parts["train"].x, abs=1e-5)
    assert schema.target_sd == pytest.approx(data.schema.target_sd)
