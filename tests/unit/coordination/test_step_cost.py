"""What optimiser steps may take follows from network and rows, with room for slow machines."""

import pytest

from flow_nexus_neural.coordination.step_cost import LONGEST_S, Ordered, step_s
from flow_nexus_neural.protocol.plan import InputSpec
from tests.unit.node.building import plan_of


def plan(layers, n_steps=0, n_scalars=400):
    spec = InputSpec(vector_length=n_steps, n_scalars=2 if n_steps else n_scalars)
    return plan_of(layers, spec)


WIDE = [{"type": "dense", "units": 2048}, {"type": "dense", "units": 1024}]
GRUS = [{"type": "gru", "units": 32, "return_sequences": True}, {"type": "gru", "units": 32}]
LSTM = [{"type": "lstm", "units": 64}]


@pytest.mark.parametrize(
    ("layers", "n_steps", "one_by_one", "measured_s"),
    [
        (WIDE, 0, False, 0.017),
        (WIDE, 0, True, 1.35),
        (LSTM, 50, False, 0.073),
        (LSTM, 50, True, 0.163),
        (GRUS, 200, False, 0.13),
        (GRUS, 200, True, 4.9),
        ([{"type": "simple_rnn", "units": 8}], 200, True, 0.53),
        (
            [{"type": "conv1d", "filters": 64, "kernel_size": 5}, {"type": "flatten"}],
            200,
            True,
            0.21,
        ),
    ],
)
def test_a_step_may_take_twice_and_more_what_one_took_on_a_busy_core(
    layers, n_steps, one_by_one, measured_s
):
    """Measured: the longest of three steps of 32 rows, beside other programs on two cores."""
    limit_s = step_s(plan(layers, n_steps), 32, one_by_one=one_by_one)
    assert 2 * measured_s < limit_s < 40 * measured_s


@pytest.mark.parametrize(("one_by_one", "measured_s"), [(False, 0.06), (True, 0.34)])
def test_a_large_network_has_time_for_its_parameters_however_few_rows(one_by_one, measured_s):
    """Measured with one row: RMSprop over 7 million parameters, with digests for proofs or with noise."""
    layers = [{"type": "dense", "units": units} for units in (2048, 2048, 1024)]
    assert step_s(plan(layers), 1, one_by_one=one_by_one) > 3 * measured_s


def test_rows_that_are_taken_one_by_one_and_steps_in_time_cost_more():
    one, both = plan(GRUS, 50), plan(GRUS, 100)
    assert step_s(both, 32) > 1.9 * step_s(one, 32)
    assert step_s(one, 64, one_by_one=True) == pytest.approx(
        2 * step_s(one, 32, one_by_one=True), rel=1e-3
    )
    assert step_s(one, 32, one_by_one=True) > 10 * step_s(one, 32)
    forth = plan([{"type": "lstm", "units": 8}], 50)
    back = plan([{"type": "bidirectional", "layer": {"type": "lstm", "units": 8}}], 50)
    assert step_s(back, 1) > 1.9 * step_s(forth, 1)


def test_an_order_has_a_least_time_and_never_more_than_a_round():
    assert Ordered(1, 10, 0.001).limit_s(60.0) == pytest.approx(60.01)
    assert Ordered(1, 10, 2.0).limit_s(60.0, n_nodes=3) == 120.0
    assert Ordered(1, 10, 2.0).limit_s(60.0, n_nodes=3, others_s=7.0) == 127.0
    assert Ordered(1, 10**6, 2.0).limit_s(60.0) == LONGEST_S
