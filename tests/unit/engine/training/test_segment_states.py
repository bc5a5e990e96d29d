"""The state before a segment: published by the engine for the first, revealed by the worker for others."""

import pytest

from flow_nexus_neural.engine.training.segment_states import SegmentStates
from flow_nexus_neural.errors import NodeError
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.test_proofs import Round


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def trained(w):
    """An exchange whose workers have trained, and its states."""
    one = Round(w)
    await one.collected()
    return one, SegmentStates(w.cluster, one.exchange)


async def ended(one, states):
    await states.release()
    states.close()
    await one.end()


async def test_the_first_state_is_published_once_an_exchange_and_not_the_workers(tmp_path):
    async with running(tmp_path, 3) as w:
        one, states = await trained(w)
        async with states:
            first, cpu_s = await states.before(one.tasks[0], 0)
            again, _ = await states.before(one.tasks[1], 0)
            assert first is again
            assert first is not one.base
            assert cpu_s == 0.0
        async with states:
            later, _ = await states.before(one.tasks[0], 0)
            assert later is not first
        await ended(one, states)


async def test_another_state_lies_in_a_buffer_of_the_worker_that_is_granted_once(tmp_path):
    services = {}

    def service(spec):
        services[spec.slot] = LinearService()
        return services[spec.slot]

    async with running(tmp_path, 3, service=service) as w:
        one, states = await trained(w)
        async with states:
            view, _ = await states.before(one.tasks[0], 1)
            mine = services["worker-0"]
            held = mine.regions["reveal:worker-0"]
            assert (held["params"] == mine.states[1]["params"]).all()
            assert (await states.before(one.tasks[0], 1))[0] is view
            assert mine.regions["reveal:worker-0"] is held
        await ended(one, states)
        assert "reveal:worker-0" not in mine.regions


async def test_a_worker_that_dies_instead_raises_and_another_process_gets_a_buffer_of_its_own(
    tmp_path,
):
    faults = FaultPlan().kill("worker-0", "reveal")
    async with running(tmp_path, 3, faults=faults) as w:
        one, states = await trained(w)
        async with states:
            with pytest.raises(NodeError):
                await states.before(one.tasks[0], 1)
            with pytest.raises(NodeError):
                await states.before(one.tasks[0], 1)
        await ended(one, states)
