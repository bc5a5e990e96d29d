"""What is remembered of predictions is bounded, and an outcome counts once."""

import numpy as np

from flow_nexus_neural.engine.state import feedback as module
from flow_nexus_neural.engine.state.feedback import Awaited, Feedback, RecentPredictions
from flow_nexus_neural.kernels.hedge import HedgeState


def awaited(rows=1):
    return Awaited(1, "s", {"worker-0": np.zeros((rows, 1))}, np.zeros((rows, 2), "f4"), (None,))


def test_the_oldest_predictions_are_forgotten_first(monkeypatch):
    monkeypatch.setattr(module, "PREDICTIONS_REMEMBERED", 3)
    recent = RecentPredictions()
    for n in range(5):
        recent.remember(f"prd_{n}", awaited())
    assert list(recent.by_id) == ["prd_2", "prd_3", "prd_4"]
    assert recent.nbytes == 3 * awaited().nbytes
    assert recent.take("prd_3") is not None
    assert recent.take("prd_3") is None
    assert recent.take("prd_0") is None
    assert recent.nbytes == 2 * awaited().nbytes


def test_large_predictions_are_bounded_by_bytes(monkeypatch):
    monkeypatch.setattr(module, "BYTES_REMEMBERED", 3 * awaited(100).nbytes)
    recent = RecentPredictions()
    for n in range(9):
        recent.remember(f"prd_{n}", awaited(100))
    assert list(recent.by_id) == ["prd_6", "prd_7", "prd_8"]
    recent.remember("huge", awaited(1000))
    assert (list(recent.by_id), recent.nbytes) == ([], 0)


def test_what_was_learnt_is_of_one_version():
    lost = HedgeState(3, {"worker-0": 1.0}, 0.5)
    feedback = Feedback(recorded=3, version=7, hedge=lost)
    assert feedback.of_version(7) is lost
    assert feedback.of_version(8) == HedgeState()


def test_a_prediction_waits_until_every_record_has_its_outcome():
    recent = RecentPredictions()
    recent.remember("prd_0", awaited(2))
    recent.settle("prd_0", 1)
    assert recent.by_id["prd_0"].told == {1}
    recent.settle("prd_0", 0)
    recent.settle("prd_0", 0)
    assert (list(recent.by_id), recent.nbytes) == ([], 0)
