"""The record of a training on outcomes; `tests/sim/test_learning_from_outcomes.py` carries it out."""

from types import SimpleNamespace

import numpy as np
import pytest

from flow_nexus_neural.coordination.admission import compare_losses
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.training.learning import Learning, _better
from tests.unit.engine.building import cluster_state, live, network, training


def rows(n):
    none = np.full(n, -1, np.int32)
    return Rows(np.zeros((n, 2), "f4"), np.zeros(n, "f4"), none, none)


def learning():
    data = SimpleNamespace(parts={"train": rows(30), "test": rows(9)}, replayed=12)
    work = SimpleNamespace(updates=[])
    made = Learning(
        live(cluster_state(clock=lambda: 7.0)),
        training(rounds=4),
        SimpleNamespace(data=data),
        None,
        SimpleNamespace(work=work),
    )
    made.training.plan_later(n_folds=1, refit=None)
    return made


def test_before_the_comparison_nothing_is_said_to_be_better():
    made = learning()
    made._note(None, 12)
    found = made.training.learning
    assert (found.outcomes, found.replayed, found.held_out) == (18, 12, 9)
    assert found.admitted is found.loss_before is found.loss_after is None


def test_after_it_the_losses_and_the_verdict_are():
    made = learning()
    made._note(compare_losses([1.0, 1.0, 0.9], [0.1, 0.2, 0.1]), 0)
    found = made.training.learning
    assert (found.admitted, found.replayed) == (True, 0)
    assert (found.loss_before, found.loss_after) == (pytest.approx(2.9 / 3), pytest.approx(0.4 / 3))


def test_rounds_of_the_first_candidate_are_those_of_the_training():
    made = learning()
    made._count(1, {"c0": network(digest="d1")}, 0.5, [5.0, 0])
    assert (made.training.advance.rounds_done, made.training.percent) == (1, 12.5)
    assert made.training.history[0].seconds == 2.0


def test_the_best_round_is_the_first_of_the_lowest_loss():
    assert _better(0.4, [0.5, None])
    assert not _better(0.5, [0.5])
    assert not _better(None, [])
