"""Numbers of an export mean something, or what is wrong with them is said."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.engine.operations.imported_numbers import (
    conformal_fault,
    metrics_fault,
    schema_fault,
)
from flow_nexus_neural.kernels.conformal import ConformalScores
from tests.unit.engine.building import schema

NAN = float("nan")


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_schema_of_a_training_has_no_fault_and_one_with_nan_has(task):
    assert schema_fault(schema(task)) is None
    assert schema_fault(schema(task).model_copy(update={"target_mean": NAN}))
    wrong = None if task != "regression" else ["a", "b"]
    assert schema_fault(schema(task).model_copy(update={"classes": wrong}))


def test_an_accuracy_is_a_share_and_a_loss_is_finite():
    assert metrics_fault(None, None) is None
    assert metrics_fault(1.0, 0.0) is None
    assert all(metrics_fault(wrong, None) for wrong in (NAN, -0.1, 1.1))
    assert all(metrics_fault(None, wrong) for wrong in (NAN, -0.1, float("inf")))


@pytest.mark.parametrize("n", [1, 2, 9, 64, 65, 1000])
def test_scores_of_a_calibration_have_no_fault_and_without_their_last_rank_have(n):
    scores = ConformalScores.of(np.linspace(0, 1, n))
    assert conformal_fault({"mean": scores}) is None
    cut = replace(scores, ranks=scores.ranks[:-1], scores=scores.scores[:-1])
    assert conformal_fault({"mean": cut})
