"""The answer to many records fits what hosts show, and says what it lacks and how to get it."""

import json
import re

import pytest

from flow_nexus_neural.engine.reports import Interval
from flow_nexus_neural.server.answer_size import (
    MAX_ANSWER_BYTES,
    MAX_FULL_BYTES,
    answer_short_enough,
)
from flow_nexus_neural.server.rounding import wire_json
from flow_nexus_neural.server.schemas import PredictResult
from tests.doubles.engine_double import prediction_report


def answer_of(n_records, **more):
    update = {
        "predictions": [0.123456 + i / 1e5 for i in range(n_records)],
        "confidences": [0.912345] * n_records,
        "decision": [str(i % 2) for i in range(n_records)],
        "probabilities": None,
        "node_predictions": None,
        "individual_predictions": None,
        "interval": None,
        "warnings": [],
        **more,
    }
    return PredictResult.of(prediction_report("mean").model_copy(update=update))


def n_bytes(answer):
    return len(json.dumps(wire_json(answer), separators=(",", ":")).encode())


def test_an_answer_of_the_usual_size_is_returned_as_it_is():
    answer = answer_of(100, probabilities=[[0.123456, 0.876544]] * 100)
    assert answer_short_enough(answer).result is answer


@pytest.mark.parametrize("n_classes", [2, 20, 200])
def test_a_thousand_records_of_any_number_of_classes_keep_the_budget(n_classes):
    answer = answer_of(1000, probabilities=[[0.0512345] * n_classes] * 1000)
    assert n_bytes(answer) > MAX_ANSWER_BYTES
    short = answer_short_enough(answer).result
    assert n_bytes(short) <= MAX_ANSWER_BYTES
    assert (short.predictions, short.confidences) == (answer.predictions, answer.confidences)
    (warning,) = short.warnings
    assert warning.count("probabilities were") == 1
    fitting = int(re.search(r"send at most (\d+) of these records", warning)[1])
    part = answer_of(fitting, probabilities=[[0.0512345] * n_classes] * fitting)
    assert answer_short_enough(part).result is part


def test_digits_go_before_whole_fields():
    probabilities = [[0.123456, 0.876543]] * 1100
    short = answer_short_enough(answer_of(1100, decision=None, probabilities=probabilities)).result
    assert short.probabilities == [[0.1235, 0.8765]] * 1100
    assert short.warnings[0].startswith("probabilities were cut to 4 digits; to get everything")


def test_answers_of_nodes_that_were_asked_for_stay_while_there_is_room():
    by_node = {f"node_{i}": [0.123456] * 801 for i in range(5)}
    answer = answer_of(801, node_predictions=by_node)
    assert n_bytes(answer) > MAX_FULL_BYTES
    short = answer_short_enough(answer, full=True).result
    assert MAX_ANSWER_BYTES < n_bytes(short) <= MAX_FULL_BYTES
    assert short.node_predictions == {node: [0.1235] * 801 for node in by_node}
    assert answer_short_enough(answer).result.node_predictions is None


def test_an_interval_that_is_left_out_can_be_computed():
    intervals = [Interval(low=i - 0.5, high=i + 0.5, level=0.9) for i in range(1000)]
    short = answer_short_enough(answer_of(1000, interval=intervals)).result
    assert short.interval is None
    assert "each prediction plus and minus 0.5;" in short.warnings[0]
    assert short.decision is not None


def test_answers_of_nodes_and_long_labels_are_left_out_last():
    labels = ["a long label of a class"] * 1000
    by_node = {f"node_{i}": labels for i in range(8)}
    short = answer_short_enough(
        answer_of(1000, predictions=labels, decision=labels, node_predictions=by_node)
    ).result
    assert n_bytes(short) <= MAX_ANSWER_BYTES
    assert short.predictions == labels
    assert (short.node_predictions, short.decision) == (None, None)


def test_of_values_nothing_is_said_to_be_cut_that_was_not():
    values = [0.123456] * 2000
    answer = answer_of(
        2000, task="regression", decision=None, node_predictions={"n1": values, "n2": values}
    )
    (warning,) = answer_short_enough(answer, full=True).result.warnings
    assert "digits" not in warning
