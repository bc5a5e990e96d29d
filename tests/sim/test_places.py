"""The engine lets as many nodes train at one time as its runtime has places, whatever the machine has."""

import pytest

from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from flow_nexus_neural.settings import Settings
from tests.sim.simulated import World, honest

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("places", [1, 2, 3])
async def test_no_more_nodes_train_at_one_time_than_the_runtime_has_places(tmp_path, places):
    training, most = set(), 0

    def trace(slot, direction, kind):
        nonlocal most
        if (direction, kind) == ("to_node", "train"):
            training.add(slot)
            most = max(most, len(training))
        elif (direction, kind) == ("from_node", "trained"):
            training.discard(slot)

    # What is delayed overlaps with everything that may begin meanwhile.
    faults = FaultPlan()
    for number in range(4):
        faults.slow(f"worker-{number}", "train", delay_s=0.05)
    runtime = InprocRuntime(honest, faults, places=places, on_event=trace)
    async with runtime, Engine.open(Settings(state_dir=tmp_path), runtime=runtime) as engine:
        w = World(engine, runtime, faults)
        cluster = await w.cluster(4)
        status = await w.train(cluster, epochs=1)
    assert status.training_status == "completed"
    assert (most, training) == (places, set())
