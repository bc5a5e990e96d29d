"""A real node that answers every ping and no prediction, under a whole engine."""

import sys
from functools import partial
from pathlib import Path

import pytest

from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess
from flow_nexus_neural.settings import Settings
from tests.doubles.runtimes import gone, until
from tests.sim.simulated import World

pytestmark = pytest.mark.anyio

PROGRAM = Path(__file__).with_name("programs") / "withholding_zygote.py"
LIAR = "worker-1"


async def test_a_real_node_that_answers_pings_only_is_ended_and_named_and_replaced(tmp_path):
    launch = partial(ZygoteProcess.launch, (sys.executable, "-I", str(PROGRAM)))
    settings, ports = Settings(state_dir=tmp_path), Ports(patience=Patience(prediction_s=0.5))
    async with (
        LocalRuntime(settings, launch=launch) as runtime,
        Engine.open(settings, runtime=runtime, ports=ports) as engine,
    ):
        w = World(engine, runtime, None)
        cluster = await w.cluster(1)
        await w.deploy(cluster, model="large")
        await w.deploy(cluster)
        trained = await w.train(cluster)
        assert trained.training_status == "completed", trained.training_error
        liar = engine.cluster(cluster).slots[LIAR]
        pid = liar.handle.pid
        assert (await w.predict(cluster, deadline_ms=20_000)).nodes_used == 2
        status = await w.until(cluster, lambda s: s.failed_nodes == 1)
        await until(lambda: gone(pid))
        (named,) = [node for node in status.nodes if node.status == "failed"]
        assert named.slot == LIAR
        assert named.last_error.startswith("predictions_unanswered: ")
        report = await w.deploy(cluster, model="large", layers=None)
        assert (report.slot, report.replaces) == (LIAR, named.node_id)
        assert (await w.predict(cluster, deadline_ms=20_000)).nodes_used == 3
