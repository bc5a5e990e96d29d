"""What a validator reads of a decision, computed by hand."""

import numpy as np
import pytest

from flow_nexus_neural.kernels.decision_features import N_FEATURES, decision_features

FUSED = np.array([[0.1, 0.9], [0.6, 0.4]])
NODES = np.array([[[0.2, 0.8], [0.3, 0.7]], [[0.0, 1.0], [0.9, 0.1]]])
DECISIONS = np.array([1, 0])


def test_each_number_is_of_the_decided_class():
    found = decision_features(FUSED, DECISIONS, NODES, None)
    assert found.shape == (2, N_FEATURES)
    assert found[0].tolist() == pytest.approx(
        [np.log(9), 0.8, 0.9, 0.1, 0.8, 1.0, 1.0, 0, 0, 0], abs=1e-6
    )
    assert found[1].tolist() == pytest.approx(
        [np.log(1.5), 0.2, 0.6, 0.3, 0.3, 0.9, 0.5, 0, 0, 0], abs=1e-6
    )


def test_a_student_adds_what_it_says_and_how_far_off_that_is():
    student = np.array([[0.5, 0.5], [0.6, 0.4]])
    found = decision_features(FUSED, DECISIONS, NODES, student)
    assert found[:, -3:].tolist() == [
        pytest.approx([0.5, 0.4, 1.0], abs=1e-6),
        pytest.approx([0.6, 0.0, 1.0], abs=1e-6),
    ]


def test_it_reads_alike_however_many_classes_and_models_there_are():
    p = np.full((1, 5), 0.2)
    assert decision_features(p, np.array([3]), p[None], None).shape == (1, N_FEATURES)
