"""Who executes a segment again, what they are granted for it, and that they forget it."""

import numpy as np
import pytest

from flow_nexus_neural.engine.training.verifiers import ENGINE, MOST_HELD, Segment, Verifiers
from flow_nexus_neural.errors import NodeError
from flow_nexus_neural.protocol.digest import training_digest
from flow_nexus_neural.protocol.messages import Pass, ProofOrder, Train
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import BATCH, RATE, START, training_rows

SHARD = np.arange(8)


@pytest.fixture
def anyio_backend():
    return virtual_time()


def segment_of(w, name="worker-0", number=1, network=START):
    """The second half of an epoch over eight rows, from the state of `START`."""
    rows, runtime = training_rows(), w.engine.context.runtime
    shard = runtime.share(f"shard:{name}", {"x": rows.x[SHARD], "y": rows.y[SHARD]})
    state = runtime.share(f"reveal:{name}", network.state.arrays)
    work = Train(
        network="train",
        base="base",
        opt_step=0,
        shard=shard.key,
        publish="publish",
        optimizer="sgd",
        learning_rate=RATE,
        batch_size=BATCH,
        passes=(Pass(order_seed=5),),
        dropout_seed=1,
        proof=ProofOrder(steps=2, segment_steps=1, context="0" * 64),
    )
    return Segment(network=network, work=work, number=number, shard=shard, state=state)


def kept(services):
    """Services by slot, as they are made."""

    def make(spec):
        services[spec.slot] = LinearService()
        return services[spec.slot]

    return make


async def test_a_segment_is_executed_from_the_state_on_the_rows_of_the_engine(tmp_path):
    async with running(tmp_path, 1) as w:
        verifiers = Verifiers(w.cluster)
        found = await verifiers.repeat(segment_of(w), 0, ())
        assert (found.verifier, found.repeated.segment) == (ENGINE, 1)
        assert found.repeated.before == training_digest(START.state.arrays, 1)
        again = await verifiers.repeat(segment_of(w), 0, ())
        assert again.repeated == found.repeated
        assert w.node("verifier-0").spec.slot not in w.slots.names()
        await verifiers.close()


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        (("validator", "parameter_server"), "validator-0"),
        (("parameter_server",), "parameter_server-0"),
        (("aggregator",), "aggregator-0"),
        ((), ENGINE),
    ],
)
async def test_validators_come_first_and_workers_never(tmp_path, roles, expected):
    async with running(tmp_path, 2) as w:
        for role in roles:
            await w.deploy(role)
        verifiers = Verifiers(w.cluster)
        found = [(await verifiers.repeat(segment_of(w), k, ())).verifier for k in range(3)]
        assert found == [expected] * 3
        await verifiers.close()


async def test_the_work_is_spread_over_validators(tmp_path):
    async with running(tmp_path, 1) as w:
        for _ in range(2):
            await w.deploy("validator")
        verifiers = Verifiers(w.cluster)
        assert verifiers.count == 2
        found = [(await verifiers.repeat(segment_of(w), k, ())).verifier for k in range(4)]
        assert found == ["validator-0", "validator-1"] * 2


async def test_after_every_validator_the_engines_own_process_is_asked_and_then_nobody(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.deploy("validator")
        verifiers, used = Verifiers(w.cluster), []
        while (found := await verifiers.repeat(segment_of(w), 0, used)) is not None:
            used.append(found.verifier)
        assert used == ["validator-0", ENGINE]
        await verifiers.close()


async def test_one_that_fails_is_passed_over_and_its_failure_is_noted(tmp_path):
    faults = FaultPlan().kill("validator-0", "reexecute")
    async with running(tmp_path, 1, faults=faults) as w:
        await w.deploy("validator")
        verifiers = Verifiers(w.cluster)
        found = await verifiers.repeat(segment_of(w), 0, ())
        assert found.verifier == ENGINE
        assert w.slots["validator-0"].last_error is not None
        await verifiers.close()


async def test_when_all_fail_the_last_failure_is_raised_and_a_new_process_is_tried_next(tmp_path):
    faults = FaultPlan().kill("verifier-0", "reexecute")
    async with running(tmp_path, 1, faults=faults) as w:
        verifiers = Verifiers(w.cluster)
        with pytest.raises(NodeError):
            await verifiers.repeat(segment_of(w), 0, ())
        assert (await verifiers.repeat(segment_of(w), 0, ())).verifier == ENGINE
        await verifiers.close()


async def test_what_was_granted_is_granted_once_and_forgotten_at_the_end(tmp_path):
    services = {}
    async with running(tmp_path, 1, service=kept(services)) as w:
        await w.deploy("validator")
        verifiers, segment = Verifiers(w.cluster), segment_of(w)
        before = set(services["validator-0"].regions)
        await verifiers.repeat(segment, 0, ())
        first = services["validator-0"].regions["shard:worker-0"]
        await verifiers.repeat(segment, 0, ())
        assert services["validator-0"].regions["shard:worker-0"] is first
        await verifiers.close()
        assert set(services["validator-0"].regions) == before


async def test_other_rows_under_the_same_name_are_granted_anew(tmp_path):
    services = {}
    async with running(tmp_path, 1, service=kept(services)) as w:
        await w.deploy("validator")
        verifiers = Verifiers(w.cluster)
        await verifiers.repeat(segment_of(w), 0, ())
        first = services["validator-0"].regions["shard:worker-0"]
        await verifiers.repeat(segment_of(w), 0, ())
        assert services["validator-0"].regions["shard:worker-0"] is not first


async def test_a_verifier_never_holds_more_regions_than_fit_beside_its_links(tmp_path):
    services = {}
    async with running(tmp_path, 1, service=kept(services)) as w:
        await w.deploy("validator")
        verifiers = Verifiers(w.cluster)
        for number in range(MOST_HELD):
            await verifiers.repeat(segment_of(w, f"worker-{number}"), 0, ())
            held = [key for key in services["validator-0"].regions if "worker" in key]
            assert len(held) == min(2 * (number + 1), MOST_HELD)


async def test_the_engines_own_process_ends_with_close(tmp_path):
    async with running(tmp_path, 1) as w:
        verifiers = Verifiers(w.cluster)
        await verifiers.close()
        await verifiers.repeat(segment_of(w), 0, ())
        node = w.node("verifier-0")
        await verifiers.close()
        assert node.gone
