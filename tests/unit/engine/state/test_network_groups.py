"""Network groups: weights and moments of one network."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.engine.state.network_groups import ADAGRAD_START, ServerState
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


def kept(method):
    vectors = {"server_m": np.ones(3, "f4")}
    return replace(
        state(plan()), server=ServerState(method, vectors, {"worker-0": vectors["server_m"]})
    )


def test_moments_of_the_server_go_on_under_their_own_method_only():
    before = kept("fedadam")
    same, other = (before.for_training_with(method) for method in ("fedadam", "fedyogi"))
    assert same.server.vectors == before.server.vectors
    assert same.server.controls == {}, "of the shards of one training"
    assert other.server is None
    assert np.array_equal(other.params, before.params)
    plain = state(plan())
    assert plain.for_training_with("fedadam") is plain


def test_control_variates_alone_are_nothing_to_go_on_from():
    before = replace(state(plan()), server=ServerState("scaffold", {}, {"worker-0": np.ones(3)}))
    assert before.for_training_with("scaffold").server is None
    assert "worker-0" not in before.arrays
