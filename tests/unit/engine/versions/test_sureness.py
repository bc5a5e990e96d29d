"""Confidence, sets and intervals of answers, and what of them was so, by hand."""

import numpy as np
import pytest

from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.versions.served import serve
from flow_nexus_neural.engine.versions.sureness import (
    conformal_scores,
    half_width,
    sets_of,
    sureness,
)
from flow_nexus_neural.kernels.conformal import ConformalScores
from tests.unit.engine.building import bundle, schema


def rows(y):
    nothing = np.full(len(y), -1, "i4")
    return Rows(np.zeros((len(y), 2), "f4"), np.asarray(y), nothing, nothing)


def made_of(probabilities, mode="mean", task="multiclass", of=None):
    logits = np.log(np.array(probabilities, dtype=np.float64))
    return serve(of or bundle({"worker-0": 1.0}), schema(task), mode, logits, [1.0] * len(logits))


ROWS = [[[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.3, 0.3, 0.4], [0.5, 0.3, 0.2]]]


def test_the_confidence_and_the_sets_of_answers_are_measured_by_hand():
    scores = {"mean": ConformalScores(9, (9,), (-0.29,))}
    of = bundle({"worker-0": 1.0}, conformal=scores)
    found = sureness(of, schema("multiclass"), "mean", made_of(ROWS), rows(np.array([0, 2, 2, 1])))
    # Right, wrong, right, wrong, at .7, .4, .4, .5: three bins of a fifteenth.
    assert found.confidence.n == 4
    assert found.confidence.ece == pytest.approx((0.3 + abs(0.8 - 1) + 0.5) / 4)
    squares = 0.3**2 + 0.4**2 + 0.6**2 + 0.5**2
    assert found.confidence.brier == pytest.approx(squares / 4)
    # {a}, {a, b}, {a, b, c}, {a, b}: the second misses its c.
    assert (found.coverage, found.size, found.scored_rows) == (0.75, 2.0, 9)
    assert found.of_report["conformal"]["calibration_rows"] == 9
    assert found.in_short("mean") == {"coverage": 0.75, "size": 2.0}


def test_without_scores_there_are_no_sets_and_confidence_is_measured_all_the_same():
    plain = bundle({"worker-0": 1.0})
    found = sureness(
        plain, schema("multiclass"), "mean", made_of(ROWS), rows(np.array([0, 2, 2, 1]))
    )
    assert found.coverage is found.size is found.of_report["conformal"] is None
    assert found.confidence is not None
    assert sets_of(plain, "mean", made_of(ROWS)) is None


def test_votes_are_as_sure_as_the_mean_is_of_what_they_decided():
    three = [[[0.9, 0.1]], [[0.45, 0.55]], [[0.45, 0.55]]]  # two of three vote for class 1, at .4
    logits = np.array([[[np.log(b / a)] for a, b in one] for one in three])
    of = bundle({f"worker-{k}": 1 / 3 for k in range(3)})
    made = serve(of, schema(), "majority", logits, [1.0] * 3)
    assert made.final.decisions.tolist() == [1]
    assert made.final.values == pytest.approx([2 / 3])
    assert made.certainty == pytest.approx([0.4])
    found = sureness(of, schema(), "majority", made, rows(np.ones(1, "f4")))
    assert found.in_short("majority")["ece"] == pytest.approx(0.6)


def test_values_are_scored_by_their_distance_in_the_targets_unit():
    task = schema("regression")  # mean 10, sd 2
    outputs = np.array([[[0.5], [1.0], [-1.0]]])
    of = bundle({"worker-0": 1.0}, conformal={"mean": ConformalScores(9, (9,), (2.0,))})
    made = serve(of, task, "mean", outputs, [1.0])
    y = rows(np.array([0.0, 2.5, -1.0], "f4"))
    assert conformal_scores(task, {"mean": made}, y) == {}, "three rows are too few for a level"
    found = sureness(of, task, "mean", made, y)
    assert half_width(of, "mean") == 2.0
    assert (found.coverage, found.size, found.confidence) == (pytest.approx(2 / 3), 4.0, None)
