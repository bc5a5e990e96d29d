"""Nodes stand behind the server for a processor, and cannot push forward."""

import os

import pytest

from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.settings import Settings
from tests.doubles.runtimes import launch_light, spec

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("steps", [0, 5, 12])
async def test_a_node_stands_as_many_steps_behind_the_server_as_set(steps):
    own = os.getpriority(os.PRIO_PROCESS, 0)
    async with LocalRuntime(Settings(node_nice=steps), launch=launch_light) as runtime:
        node = await runtime.start(spec())
        assert os.getpriority(os.PRIO_PROCESS, node.pid) == min(own + steps, 19)
        assert node.isolation.layers["nice"] == min(own + steps, 19)
        zygote = runtime.zygote_info().pid
        assert os.getpriority(os.PRIO_PROCESS, zygote) == own


def test_nodes_stand_behind_the_server_unless_told_otherwise():
    assert Settings().node_nice == 5
