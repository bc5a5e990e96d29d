"""Faults that schedules found, each as small as it gets."""

import anyio
import pytest

from flow_nexus_neural.errors import NodeStartFailed
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.seeded import run_seeded
from tests.sim.scheduled import scheduled_world
from tests.sim.simulated import honest


def test_who_waits_for_a_restart_is_woken_when_it_has_failed(tmp_path):
    """A training waits so for its workers; it waited 20 s in vain."""

    def service(spec):
        if spec.incarnation > 1:
            raise RuntimeError("no luck")
        return honest(spec)

    async def restart():
        under_way = []

        async def watch(cluster, slot):
            while True:
                await cluster.changes.wait_beyond(cluster.changes.count)
                under_way.append(slot.restarting.locked())

        async with scheduled_world(tmp_path, None, service) as w:
            name = await w.cluster(1)
            w.kill("worker-0")
            await w.until(name, lambda s: s.failed_nodes == 1)
            cluster = w.engine.cluster(name)
            async with anyio.create_task_group() as group:
                group.start_soon(watch, cluster, cluster.slots["worker-0"])
                await anyio.wait_all_tasks_blocked()
                with pytest.raises(NodeStartFailed):
                    await w.deploy(name, layers=None)
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
        return under_way

    under_way = run_seeded(restart)
    assert True in under_way
    assert under_way[-1] is False


def test_a_training_without_workers_does_not_try_on_while_only_a_validator_comes_back(tmp_path):
    def service(spec):
        if spec.slot == "validator-0" and spec.incarnation > 1:
            raise RuntimeError("no luck")
        return honest(spec)

    async def fail():
        faults = FaultPlan().kill("worker-0", "train", nth=2).lose("validator-0", "infer", nth=1)
        async with scheduled_world(tmp_path, faults, service) as w:
            cluster = await w.cluster(1)
            await w.deploy(cluster, "validator")
            status = await w.train(cluster, epochs=3)
            return status.training_status, status.training_error, anyio.current_time()

    status, error, seconds = run_seeded(fail)
    assert status == "failed"
    assert error.startswith(("no_workers", "round_failed"))
    assert seconds < 10
