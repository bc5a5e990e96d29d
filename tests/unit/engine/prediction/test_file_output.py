"""Columns, cells and totals of an output file, by hand-computed values."""

import numpy as np
import pytest

from flow_nexus_neural.data.file_labels import FileLabels
from flow_nexus_neural.engine.prediction.answer import Answer
from flow_nexus_neural.engine.prediction.file_output import (
    Tally,
    output_cells,
    output_columns,
    report_of_all,
)
from flow_nexus_neural.engine.prediction.reply import report, served
from flow_nexus_neural.engine.prediction.weighting import Weighting
from flow_nexus_neural.engine.requests import PredictRequest
from tests.unit.engine.building import bundle, committed, network, slot
from tests.unit.engine.prediction.test_reply import adapted

REQUEST = PredictRequest(cluster_id="dnc", input_path="in.csv")
NAMES = ("worker-0", "worker-1")


def model(task):
    weights = dict.fromkeys(NAMES, 0.5)
    return committed([network(slots=NAMES, task=task)], bundle(weights), task)


def answered(task, logits, used=NAMES):
    """An answer of nodes that all say the same."""
    values = np.array(logits, dtype=float).reshape(len(logits), -1)
    return Answer(
        committed=model(task),
        request=REQUEST,
        adapted=adapted(len(logits), is_list=True),
        slots=[slot(name) for name in NAMES],
        logits=dict.fromkeys(used, values),
        latency_ms=dict.fromkeys(used, 1.0),
        excluded={name: "late" for name in NAMES if name not in used},
        weighting=Weighting(dict.fromkeys(NAMES, 0.5)),
        elapsed_ms=1.0,
    )


def written(task, logits, usable, ids=(), first=0):
    answer = answered(task, logits)
    names = [f"id{number}" for number in range(len(ids))]
    columns = output_columns(answer.committed.schema, names)
    made = report("dnc", "prd", answer)
    cells = output_cells(columns, made, first, usable, ids)
    return [column.name for column in columns], list(zip(*map(list, cells), strict=True)), made


def test_a_binary_row_has_the_probability_the_decision_and_the_confidence():
    names, rows, made = written("binary", [3.0, -1.0], [True, True], [["a", None]], first=40)
    assert names == ["row", "id0", "prediction", "decision", "confidence", "model_version"]
    p = [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(1))]
    assert [row[:2] for row in rows] == [(40, "a"), (41, None)]
    assert [row[2] for row in rows] == [float(f"{value:.6g}") for value in p]
    assert [row[3] for row in rows] == made.decision
    assert {row[5] for row in rows} == {made.model_version}


def test_a_multiclass_row_has_a_probability_per_class():
    names, rows, made = written("multiclass", [[0.0, 1.0, 2.0]], [True])
    classes = made.classes
    assert names == [
        "row",
        "prediction",
        "confidence",
        *(f"p_{c}" for c in classes),
        "model_version",
    ]
    assert rows[0][3:6] == tuple(float(f"{p:.6g}") for p in made.probabilities[0])
    assert str(rows[0][1]) == str(classes[2])


def test_a_row_that_is_not_predicted_is_empty_but_for_its_place():
    _, rows, made = written("regression", [1.0, 2.0], [False, True])
    assert rows[0] == (0, None, None, None, made.model_version)
    assert rows[1][1] is not None


def tallied(task, logits, usable, labels=None, parts=1, used=NAMES):
    tally = Tally(model(task).schema, None if labels is None else FileLabels("y", labels, []))
    for part in range(parts):
        answer = answered(task, logits, used if part == 0 else NAMES)
        made_of = served(answer)
        made = report("dnc", "prd", answer, made_of)
        tally.add(made, made_of.final, answer.adapted, np.array(usable))
    return tally


def test_totals_are_over_the_predicted_rows_of_all_batches():
    tally = tallied("binary", [3.0, -1.0, 2.0], [True, True, False], parts=2, used=NAMES[:1])
    assert (tally.rows_done, tally.without, tally.batches, tally.degraded) == (6, 2, 2, 1)
    assert dict(tally.classes) == {"1": 2, "0": 2}
    made = report_of_all("dnc", "prd", REQUEST, model("binary"), tally, 5.0)
    assert (made.nodes_used, made.nodes_expected) == (1, 2)
    assert made.degraded_reason == "1 of 2 batches lack a node"
    assert (made.predictions, made.output, made.latency_ms) == ([], None, 5.0)
    assert [gone.reason for gone in made.excluded_nodes] == ["late"]
    assert (made.input_report.rows, made.input_report.mapped) == (6, ["f0"])
    assert made.consensus == pytest.approx((0.5 * 2 + 1.0 * 2) / 4)
    assert made.confidence is not None


def test_before_the_first_batch_nothing_is_known():
    made = report_of_all("dnc", "prd", REQUEST, model("binary"), Tally(model("binary").schema), 5.0)
    assert made.confidence is made.consensus is made.node_agreement is None
    assert made.effective_ensemble_size is None
    assert (made.calibrated, made.degraded, made.nodes_used) == (False, False, 0)


def test_metrics_are_of_rows_that_are_predicted_and_labelled():
    labels = np.array([1.0, 1.0, 0.0, np.nan])
    tally = tallied("binary", [3.0, -1.0, -2.0, 5.0], [True] * 4, labels)
    found = tally.measured(REQUEST)
    p = 1 / (1 + np.exp(-np.array([3.0, -1.0, -2.0])))
    assert (found.rows, found.column) == (3, "y")
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.log_loss == pytest.approx(-np.log([p[0], p[1], 1 - p[2]]).mean(), rel=1e-5)
    assert found.brier == pytest.approx(
        np.mean([(1 - p[0]) ** 2, (1 - p[1]) ** 2, p[2] ** 2]), rel=1e-5
    )
    assert found.mae is found.r2 is None
    assert tallied("binary", [3.0], [True], np.array([np.nan])).measured(REQUEST) is None
    assert tallied("binary", [3.0], [True]).measured(REQUEST) is None
    shares = REQUEST.model_copy(update={"aggregation": "majority"})
    only = tally.measured(shares)
    assert only.accuracy is not None
    assert only.log_loss is only.auc is only.brier is None


def test_metrics_of_numbers_are_in_the_unit_of_the_target():
    answer = answered("regression", [0.0, 1.0])
    values = served(answer).final.values
    tally = tallied("regression", [0.0, 1.0], [True, True], np.add(values, [1.0, -3.0]))
    found = tally.measured(REQUEST)
    assert (found.mae, found.rmse) == (pytest.approx(2.0), pytest.approx(np.sqrt(5)))
    assert found.accuracy is found.log_loss is None


def robust_answer(task, logits, used):
    """An answer of four slots of which one may lie, with these logits of each that answered."""
    names = tuple(f"worker-{k}" for k in range(4))
    weights = dict.fromkeys(names, 0.25)
    networks = [network(f"c{k}", (name,), task, f"d{k}") for k, name in enumerate(names)]
    return Answer(
        committed=committed(networks, bundle(weights, robust=True), task),
        request=REQUEST.model_copy(update={"aggregation": "majority"}),
        adapted=adapted(len(logits[0]), is_list=True),
        slots=[slot(name) for name in names],
        logits={
            name: np.array(values, dtype=float)
            for name, values in zip(names[:used], logits, strict=True)
        },
        latency_ms=dict.fromkeys(names[:used], 1.0),
        excluded=dict.fromkeys(names[used:], "late"),
        weighting=Weighting(weights),
        elapsed_ms=1.0,
    )


ONE_EACH = [
    [row, np.log([0.7, 0.2, 0.1])] for row in np.log(np.full((3, 3), 0.1) + 0.7 * np.eye(3))
]


@pytest.mark.parametrize(("used", "decided"), [(3, [False, True]), (2, [False, False])])
def test_rows_without_a_quorum_are_empty_in_the_file_and_counted_apart(used, decided):
    answer = robust_answer("multiclass", ONE_EACH[:used], used)
    made_of = served(answer)
    made = report("dnc", "prd", answer, made_of)
    schema = answer.committed.schema
    cells = output_cells(output_columns(schema, []), made, 0, [True, True], [])
    assert [value is not None for value in cells[1]] == decided
    assert [value is not None for value in cells[2]] == decided
    assert all((value is not None) == (used == 3) for column in cells[3:6] for value in column)
    tally = Tally(schema, FileLabels("y", np.array([0.0, 0.0]), []))
    tally.add(made, made_of.final, answer.adapted, np.array([True, True]))
    assert (tally.without, tally.undecided) == (2 - sum(decided),) * 2
    assert sum(tally.classes.values()) == sum(decided)
    told = report_of_all("dnc", "prd", answer.request, answer.committed, tally, 5.0)
    assert told.quorum.model_dump() == {"needed": 3, "got": used, "f": 1}
    measured = tally.measured(answer.request)
    assert (measured.rows if measured else 0) == sum(decided)


def test_a_file_whose_batches_came_about_in_two_ways_says_how_many_did_in_which():
    tally = Tally(model("binary").schema)
    tally.batches, tally.stacked, tally.doubted = 4, 3, 4
    made = report_of_all("dnc", "prd", REQUEST, model("binary"), tally, 5.0)
    assert any(text.startswith("in 3 of 4 batches aggregators") for text in made.warnings)
    assert not any("validators" in text for text in made.warnings)
