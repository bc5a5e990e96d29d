"""A process of the engine's own: confined and supervised like a node, and no member of the cluster."""

import pytest

from flow_nexus_neural.engine.nodes.spare import start_spare, stop_spare
from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.errors import NodeStartFailed
from flow_nexus_neural.protocol.messages import Ping
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def test_it_answers_and_is_no_member(tmp_path):
    async with running(tmp_path, 1) as w:
        spare = await start_spare(w.cluster, "verifier-0")
        assert spare.healthy
        reply, _ = await spare.handle.call(Ping())
        assert reply.busy is None
        assert [slot.name for slot in w.slots] == ["worker-0"]
        assert (await w.status()).total_nodes == 1
        await stop_spare(spare)


async def test_it_ends_when_it_is_stopped_and_stopping_twice_changes_nothing(tmp_path):
    async with running(tmp_path, 1) as w:
        spare = await start_spare(w.cluster, "verifier-0")
        handle = spare.handle
        await stop_spare(spare)
        assert (await handle.wait_exit()).reason == "killed"
        await stop_spare(spare)
        assert spare.handle is None


async def test_nothing_is_left_of_one_that_does_not_come_up(tmp_path):
    def service(spec):
        if spec.slot == "verifier-0":
            raise RuntimeError("no")
        return LinearService()

    async with running(tmp_path, 1, service=service) as w:
        with pytest.raises(NodeStartFailed):
            await start_spare(w.cluster, "verifier-0")
        assert [node for node in w.runtime.nodes if not node.gone] == [w.node("worker-0")]


async def test_one_that_freezes_is_killed(tmp_path):
    faults = FaultPlan().freeze("verifier-0", "ping")
    ports = Ports(patience=Patience(silence_s=1, ping_s=1, min_grace_s=1, first_step_s=1))
    async with running(tmp_path, 1, faults=faults, ports=ports) as w:
        spare = await start_spare(w.cluster, "verifier-0")
        assert (await spare.handle.wait_exit()).reason == "killed"
        assert "frozen" in spare.last_error
