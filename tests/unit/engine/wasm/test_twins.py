"""Instances of committed networks: shared by equal weights, given up with their version, bounded."""

from types import SimpleNamespace

import numpy as np
import pytest

from flow_nexus_neural.coordination.backend_choice import TOO_LONG
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.wasm import twins
from flow_nexus_neural.engine.wasm.twins import Twins
from tests.unit.node.building import FLAT, plan_of, rows
from tests.unit.wasm.reference import random_state


async def offload(function, *arguments):
    return function(*arguments)


@pytest.fixture
def made():
    return Twins(SimpleNamespace(offload=offload, clock=lambda: 0.0))


def group(seed=0, units=3):
    plan = plan_of([{"type": "dense", "units": units, "activation": "relu"}], FLAT)
    empty = NetworkGroup("c0", plan, ("worker-0",), "given", "sgd")
    params, buffers = random_state(plan, seed)
    return empty.with_state(ModelState(params, buffers, {}, 0))


async def test_each_state_has_its_own_instance_of_one_shape(made):
    one, other = group(1), group(2)
    assert await made.bring(one) is None
    assert await made.bring(other) is None
    first = made.get(one.digest)
    assert await made.bring(one) is None
    assert made.get(one.digest) is first
    assert len(made._shapes) == 1
    asked = rows(2, FLAT)
    assert not np.array_equal(first.infer(asked), made.get(other.digest).infer(asked))


async def test_instances_of_other_versions_are_given_up(made):
    one, other = group(1), group(2)
    await made.bring(one)
    await made.bring(other)
    made.keep_only({other.digest})
    assert made.get(one.digest) is None
    assert made.get(other.digest) is not None
    made.drop(other.digest)
    assert made.get(other.digest) is None


async def test_what_is_too_much_memory_is_said(made, monkeypatch):
    monkeypatch.setattr(twins, "MAX_PAGES", 0)
    assert "MiB" in await made.bring(group())


async def test_a_network_without_weights_in_memory_has_none(made):
    assert "not in memory" in await made.bring(group().without_state())


async def test_a_network_whose_runs_are_long_is_tried_beside_the_event_loop_only(made):
    """And once a version: its weights are not loaded again for each node that has them."""
    beside = []
    now_s = iter(range(100))
    made._context.clock = lambda: float(next(now_s))

    async def noted(function, *arguments):
        beside.append(function)
        return function(*arguments)

    made._context.offload = noted
    one = group(1)
    assert await made.bring(one) == TOO_LONG
    assert made.get(one.digest) is None
    n_beside = len(beside)
    assert await made.bring(one) == TOO_LONG
    assert len(beside) == n_beside
    made.keep_only(())
    made._context.clock = lambda: 0.0
    assert await made.bring(one) is None
