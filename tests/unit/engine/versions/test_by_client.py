"""The score of the middle client: a minority that lies about its labels does not choose the best round."""

import numpy as np
import pytest

from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.versions.by_client import median_score
from flow_nexus_neural.engine.versions.evaluation import measure, score
from flow_nexus_neural.engine.versions.served import serve
from tests.unit.engine.building import bundle, schema


def rows_of(clients, task="binary", flips=()):
    """Rows whose label is the sign of their logit, flipped for some clients."""
    clients = np.array(clients, "i4")
    logits = np.where(np.arange(len(clients)) % 2, 2.0, -2.0)
    y = (logits > 0) != np.isin(clients, flips)
    none = np.full(len(clients), -1, "i4")
    rows = Rows(np.zeros((len(clients), 2), "f4"), y.astype("f4"), none, clients)
    answers = serve(bundle({}), schema(task), "mean", logits[None, :, None], [1.0]).final
    return answers, rows


def test_two_of_five_that_flip_their_labels_and_hold_most_rows_do_not_move_the_score():
    few, many = [0, 0, 1, 1, 2, 2], [3] * 20 + [4] * 20
    clean = median_score(schema(), *rows_of(few + many))
    lied = median_score(schema(), *rows_of(few + many, flips=(3, 4)))
    assert lied == clean
    assert (lied.accuracy, lied.loss) == (1.0, pytest.approx(np.log1p(np.exp(-2))))
    answers, rows = rows_of(few + many, flips=(3, 4))
    together = score(measure(schema(), answers, rows))
    assert together.accuracy < 0.2, "flipped labels do not bite, so nothing is shown"


def test_clients_count_alike_however_many_rows_they_have():
    answers, rows = rows_of([0, 0, 1, 1, 2] + [2] * 95, flips=(2,))
    found = median_score(schema(), answers, rows)
    assert found.accuracy == 1.0


def test_a_model_that_gets_worse_for_honest_clients_scores_worse():
    answers, rows = rows_of([0, 0, 1, 1, 2, 2])
    worse, _ = rows_of([0, 0, 1, 1, 2, 2])
    worse = serve(bundle({}), schema(), "mean", np.full((1, 6, 1), 0.3), [1.0]).final
    better = median_score(schema(), answers, rows)
    assert median_score(schema(), worse, rows).loss > better.loss


@pytest.mark.parametrize("clients", [[0, 0, 1, 1], [-1, -1, -1, -1], [0, 1, -1, -1]])
def test_of_fewer_than_three_clients_there_is_no_middle_one(clients):
    assert median_score(schema(), *rows_of(clients)) is None


def test_values_of_a_regression_are_scored_alike():
    clients = np.repeat(np.arange(3, dtype="i4"), 4)
    none = np.full(12, -1, "i4")
    values = np.linspace(-1, 1, 12)
    y = (values + np.repeat([0.1, 0.2, 50.0], 4)).astype("f4")
    rows = Rows(np.zeros((12, 2), "f4"), y, none, clients)
    of = schema("regression")
    answers = serve(bundle({}), of, "mean", values[None, :, None], [1.0]).final
    assert median_score(of, answers, rows).loss == pytest.approx(0.04, rel=1e-3)
