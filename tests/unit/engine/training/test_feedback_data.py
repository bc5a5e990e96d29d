"""Outcomes as rows: parts in the order in which they came, former rows drawn by the seed."""

import numpy as np
import pytest

from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.feedback import RecordedOutcome
from flow_nexus_neural.engine.training import feedback_data as module
from flow_nexus_neural.engine.training.feedback_data import is_feedback, joined, rows_of
from tests.unit.engine.building import bundle, cluster_state, committed, live, network, schema


def outcome(n, value=1.0, symbol=None):
    x = np.full(2, n, "f4")
    return RecordedOutcome("prd", n, 3, schema().digest, symbol, value, {}, x, "now")


def outcomes(n):
    return [outcome(k, float(k % 2)) for k in range(n)]


def prepared(n, former=None, seed=1, monkeypatch=None):
    state = cluster_state()
    state.committed = committed([network()], bundle({"worker-0": 1.0}))
    monkeypatch.setattr(module, "training_rows", lambda *_: former)
    return module._prepared(live(state), state.committed, outcomes(n), seed)


def test_only_the_name_of_it_is_feedback():
    asked = {
        name: TrainRequest(cluster_id="c", dataset=name) for name in ("feedback", "feedback.csv")
    }
    assert is_feedback(asked["feedback"])
    assert not is_feedback(asked["feedback.csv"])
    assert not is_feedback(TrainRequest(cluster_id="c", dataset=[{"x": 1}]))


@pytest.mark.parametrize(
    ("task", "kind"), [("binary", "f4"), ("multiclass", "i8"), ("regression", "f4")]
)
def test_rows_have_the_kind_of_label_that_training_takes(task, kind):
    rows = rows_of(schema(task), ["BTC", "ETH"], [outcome(0, 1.0, "ETH"), outcome(1, 0.0, "DOGE")])
    assert rows.y.dtype == np.dtype(kind)
    assert rows.y.tolist() == [1, 0]
    assert rows.symbols.tolist() == [1, -1]
    assert rows.x.tolist() == [[0, 0], [1, 1]]


def test_the_newest_judge_and_those_before_them_validate(monkeypatch):
    data = prepared(80, monkeypatch=monkeypatch)
    firsts = {part: rows.x[:, 0].tolist() for part, rows in data.parts.items()}
    assert firsts["train"] == list(range(48))
    assert firsts["select"] == list(range(48, 60))
    assert firsts["test"] == list(range(60, 80))
    assert firsts["meta"] == firsts["calib"] == []
    assert (data.replayed, data.description.kind, data.description.rows) == (0, "feedback", 80)
    assert data.schema == schema()


def test_as_many_former_rows_are_replayed_and_all_of_them_stay(monkeypatch):
    former = rows_of(schema(), [], [outcome(1000 + k) for k in range(200)])
    data = prepared(80, former, monkeypatch=monkeypatch)
    train = data.parts["train"].x[:, 0]
    assert data.replayed == 48
    assert (train[:48] >= 1000).all()
    assert train[48:].tolist() == list(range(48))
    assert len(set(train[:48].tolist())) == 48
    assert len(data.replay) == 248
    again = prepared(80, former, monkeypatch=monkeypatch)
    assert (again.parts["train"].x == data.parts["train"].x).all()
    other = prepared(80, former, seed=2, monkeypatch=monkeypatch)
    assert (other.parts["train"].x[:48] != data.parts["train"].x[:48]).any()


def test_few_former_rows_are_all_replayed(monkeypatch):
    former = rows_of(schema(), [], [outcome(1000 + k) for k in range(5)])
    assert prepared(80, former, monkeypatch=monkeypatch).replayed == 5


def test_joined_rows_have_no_order_in_time():
    one = rows_of(schema(), [], outcomes(2))
    both = joined(one, one)
    assert (len(both), both.last, both.clients.tolist()) == (4, None, [-1] * 4)
