"""Network groups: weights and moments of one network."""

import numpy as np
import pytest

from flow_nexus_neural.engine.state.network_groups import ADAGRAD_START
from tests.unit.engine.building import plan, state


@pytest.mark.parametrize(
    ("optimizer", "moments"), [("adam", "mv"), ("sgd", ""), ("rmsprop", "v"), ("adagrad", "v")]
)
def test_another_optimizer_starts_afresh_from_the_same_weights(optimizer, moments):
    before = state(plan())
    after = before.with_fresh_moments(optimizer)
    assert np.array_equal(after.params, before.params)
    assert (set(after.moments), after.opt_step) == (set(moments), 0)
    start = ADAGRAD_START if optimizer == "adagrad" else 0
    assert all((array == np.float32(start)).all() for array in after.moments.values())


def test_a_state_with_one_bad_value_is_not_finite():
    one = state(plan())
    assert one.is_finite
    one.moments["v"][0] = np.inf
    assert not one.is_finite
