"""What validators read of decisions, and how far their word counts."""

import numpy as np
import pytest

from flow_nexus_neural.engine.versions.doubt import bounded, features_of
from flow_nexus_neural.engine.versions.served import serve
from tests.unit.engine.building import bundle, schema

MADE = serve(bundle({}), schema(), "mean", np.array([[[2.0], [0.1]], [[2.0], [0.3]]]), [1.0, 1.0])
SAID = np.array([0.99, 0.2])


def test_they_read_each_decision_with_what_a_student_says_of_it():
    alone = features_of(MADE, None)
    beside = features_of(MADE, np.array([[2.0], [-1.0]]))
    assert alone.shape == beside.shape == (2, 10)
    assert (alone[:, :7] == beside[:, :7]).all()
    assert alone[:, -1].tolist() == [0.0, 0.0]
    assert beside[:, -1].tolist() == [1.0, 1.0]


def test_values_are_refused():
    values = serve(bundle({}), schema("regression"), "mean", np.zeros((1, 1, 1)), [1.0])
    with pytest.raises(ValueError, match="decide nothing"):
        features_of(values, None)


def test_a_lying_validator_cannot_make_anybody_surer_than_the_answers_are():
    assert bounded(SAID, MADE, robust=False).tolist() == SAID.tolist(), "without the bound it can"
    held = bounded(SAID, MADE, robust=True)
    assert held[0] == pytest.approx(MADE.certainty[0])
    assert held[1] == pytest.approx(0.2)
