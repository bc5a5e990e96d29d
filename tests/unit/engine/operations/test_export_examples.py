"""Rows to check an export with, where none of the training are stored."""

import numpy as np

from flow_nexus_neural.engine.operations.export_examples import N_EXAMPLES, _made_up
from tests.unit.engine.building import schema


def test_made_up_rows_differ_stay_within_the_scaling_and_are_the_same_each_time():
    first, again = _made_up(schema(features=3)), _made_up(schema(features=3))
    assert np.array_equal(first.x, again.x)
    assert first.x.shape == (N_EXAMPLES, 3)
    assert len(np.unique(first.x, axis=0)) == N_EXAMPLES
    assert np.abs(first.x).max() <= 2
    assert "no rows of it are stored" in first.source
