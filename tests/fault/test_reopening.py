"""An engine that could not be opened, or that fell, is opened again by a later call."""

from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from flow_nexus_neural.cli.serve import FirstZygote, launch_zygote, open_engine
from flow_nexus_neural.engine.requests import DeployRequest, InitRequest
from flow_nexus_neural.engine.storage.state_dir import StateDirLock, prepare
from flow_nexus_neural.errors import StateDirLocked
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S

LAYERS = ({"type": "dense", "units": 2},)


async def deploys(host):
    """A node comes up on the engine that the host has now."""
    engine = await host.engine()
    cluster = await engine.init_cluster(InitRequest(name="again", daa_enabled=False))
    node = await engine.deploy_node(DeployRequest(cluster_id=cluster.cluster_id, layers=LAYERS))
    return node.healthy


async def test_after_the_state_directory_is_free_again_the_next_call_works(tmp_path):
    settings = Settings(state_dir=tmp_path / "state")
    prepare(settings.state_dir)
    other = StateDirLock(settings.state_dir)
    other.acquire()
    open_real = partial(open_engine, settings, FirstZygote(launch_zygote()))
    with anyio.fail_after(HANG_S):
        async with EngineHost(open_real).running() as host:
            for _ in range(2):
                with pytest.raises(StateDirLocked):
                    await host.engine()
            other.release()
            assert await deploys(host)


async def test_an_engine_that_fell_is_replaced_at_the_next_call_with_a_zygote_of_its_own(tmp_path):
    settings = Settings(state_dir=tmp_path / "state")
    give = FirstZygote(launch_zygote())
    falls = []

    @asynccontextmanager
    async def falling():
        """The real engine in a task group that can be made to fail, as a bug in it would."""
        async with open_engine(settings, give) as engine, anyio.create_task_group() as tasks:
            fall = anyio.Event()
            falls.append(fall)

            async def wait_to_fall():
                await fall.wait()
                raise ZeroDivisionError("a bug")

            tasks.start_soon(wait_to_fall)
            yield engine
            tasks.cancel_scope.cancel()

    with anyio.fail_after(HANG_S):
        async with EngineHost(falling).running() as host:
            assert await deploys(host)
            falls[-1].set()
            while host.loaded is not None:
                await anyio.lowlevel.checkpoint()
            assert await deploys(host)
    assert len(falls) == 2
