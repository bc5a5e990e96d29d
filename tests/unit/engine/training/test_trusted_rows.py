"""Validators at work on rows that no worker has: losses of candidates, and an update of their own."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.validated_selection import LEAST_ROWS
from flow_nexus_neural.engine.training.tasks import Recipe
from flow_nexus_neural.engine.training.trusted_rows import (
    Trusted,
    TrustedRows,
    can_select,
    require_trusted,
)
from flow_nexus_neural.errors import InvalidArguments, NoWorkers
from flow_nexus_neural.protocol.messages import Pass
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import BATCH, RATE, START, trained, training_rows

ROWS = training_rows(LEAST_ROWS)
RECIPE = Recipe(learning_rate=RATE, batch_size=BATCH, feature_dropout=0.0, class_weight=())
TRUSTED = Trusted(ROWS, "regression", RECIPE)
SEEDS = (5, 6)


@pytest.fixture
def anyio_backend():
    return virtual_time()


def passes(_slot):
    return tuple(Pass(order_seed=seed) for seed in SEEDS)


def moved(by):
    return replace(START.state, params=START.state.params + np.float32(by))


async def test_the_losses_of_every_candidate_are_those_of_its_weights_row_by_row(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.deploy("validator")
        trusted = TrustedRows(w.cluster, TRUSTED)
        states = {"one": START.state, "other": moved(1.0)}
        found = await trusted.losses(START, states, 3)
        for name, state in states.items():
            errors = ROWS.x @ state.params[:3] + state.params[3] - ROWS.y
            np.testing.assert_allclose(found[name], errors**2, rtol=1e-4)
        await trusted.release()


async def test_only_validators_are_asked_and_without_one_nobody(tmp_path):
    services = {}

    def make(spec):
        services[spec.slot] = LinearService()
        return services[spec.slot]

    async with running(tmp_path, 2, service=make) as w:
        with pytest.raises(NoWorkers):
            await TrustedRows(w.cluster, TRUSTED).losses(START, {"one": START.state}, 1)
        await w.deploy("validator")
        trusted = TrustedRows(w.cluster, TRUSTED)
        await trusted.losses(START, {"one": START.state}, 1)
        await trusted.update(START, passes, 0)
        held = {slot for slot, of in services.items() if any(of.regions)}
        assert held == {"validator-0"}
        await trusted.release()
        kept = {key.partition(":")[0] for key in services["validator-0"].regions}
        assert not kept & {"shard", "publish", "trusted"}


async def test_the_trusted_update_is_what_a_worker_with_these_rows_would_publish(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.deploy("validator")
        trusted = TrustedRows(w.cluster, TRUSTED)
        every = np.arange(len(ROWS))
        expected, _, _ = trained(
            START.state.params, ROWS, every, [(seed, 0, None) for seed in SEEDS]
        )
        for _ in range(2):  # the second finds the validator prepared
            found = await trusted.update(START, passes, 0)
            np.testing.assert_allclose(found.params, expected, rtol=1e-4)
        other = replace(START, key="c1")
        np.testing.assert_allclose(
            (await trusted.update(other, passes, 0)).params, expected, rtol=1e-4
        )
        await trusted.release()


async def test_a_validator_that_died_is_not_replaced_by_a_worker(tmp_path):
    async with running(tmp_path, 2, faults=FaultPlan()) as w:
        await w.deploy("validator")
        trusted = TrustedRows(w.cluster, TRUSTED)
        await trusted.update(START, passes, 0)
        await w.kill("validator-0")
        with pytest.raises(NoWorkers, match="no healthy validator"):
            await trusted.update(START, passes, 0)
        trusted.close()


@pytest.mark.parametrize(
    ("rows", "validators", "partition", "can"),
    [
        (LEAST_ROWS, 1, "dirichlet:0.5", True),
        (LEAST_ROWS, 1, "capability", True),
        (LEAST_ROWS - 1, 1, "iid", False),
        (1000, 0, "iid", False),
        (1000, 1, "client", False),
    ],
)
def test_unasked_rules_are_selected_where_no_client_lies_in_the_rows_they_are_selected_by(
    rows, validators, partition, can
):
    assert can_select(rows, validators, partition) == can


def test_a_rule_by_name_needs_a_validator_and_rows():
    require_trusted("fltrust", LEAST_ROWS, 1)
    with pytest.raises(InvalidArguments, match="'fltrust' needs a healthy validator") as caught:
        require_trusted("fltrust", LEAST_ROWS, 0)
    assert "neural_node_deploy" in caught.value.hint
    with pytest.raises(InvalidArguments, match="needs 64 validation rows and the data leave 63"):
        require_trusted("validated", LEAST_ROWS - 1, 1)
    assert not TrustedRows(None, replace(TRUSTED, rows=ROWS.at(slice(0, 63)))).enough
