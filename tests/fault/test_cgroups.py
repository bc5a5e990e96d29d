"""All nodes together in one control group: what it stops, and that nothing of it stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import numpy as np
import pytest

from flow_nexus_neural.errors import NodeDied
from flow_nexus_neural.protocol.messages import Build, Ping, Predict
from flow_nexus_neural.runtime.local.cgroups import GroupLimits, NodeGroup, hierarchies
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.settings import Settings
from tests.doubles.linear_service import linear_plan
from tests.doubles.runtimes import gone, launch_light, spec, until
from tests.security.harness import BARE, SUCCEEDED, outcome_of

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
TOTAL_MB = 256


@pytest.fixture
def homes():
    """Our own groups; skips where no group can be made below them."""
    group = NodeGroup.create(GroupLimits(memory_mb=None, nodes=1), ours=())
    if group is None:
        pytest.skip("this system lets us make no control group: that layer was NOT tested")
    group.close()
    return [hierarchy.home for hierarchy in hierarchies()]


def groups(homes, pid):
    return [found for home in homes for found in home.glob(f"flow-nexus-neural-*-{pid}-*")]


def grouped(**more):
    return LocalRuntime(Settings(total_memory_mb=TOTAL_MB, **more), launch=launch_light)


async def keep_mb(node, count):
    await node.call(Build(network="keep_mb", plan=linear_plan(), seed=1))
    brought = {"x": np.zeros((1, 3), "f4"), "mb": np.array([count], "f4")}
    await node.call(Predict(network="keep_mb"), brought)


async def test_a_group_that_allocates_beyond_the_total_loses_its_greediest_node_alone(homes):
    async with grouped() as runtime:
        modest = await runtime.start(spec("worker-0", memory_mb=1024))
        greedy = await runtime.start(spec("worker-1", memory_mb=1024))
        zygote = runtime.zygote_info().pid
        await keep_mb(modest, 64)
        with pytest.raises(NodeDied):
            await keep_mb(greedy, 512)  # allowed to it alone, not beside the other
        assert (await greedy.wait_exit()).reason == "out_of_memory"
        assert (await modest.call(Ping()))[0].kind == "pong"
        assert runtime.zygote_info().pid == zygote


async def test_without_a_group_the_same_allocation_is_granted():
    async with grouped(cgroup=False) as runtime:
        node = await runtime.start(spec(memory_mb=1024))
        await keep_mb(node, 512)
        assert node.isolation.layers["cgroup"] is None
        assert set(node.isolation.not_enforced) == {"cpu_share", "total_memory"}


async def test_every_node_reports_what_the_kernel_says_of_its_group(homes):
    async with grouped() as runtime:
        node = await runtime.start(spec())
        limits = node.isolation.layers["cgroup"]
        members = {pid for place in groups(homes, os.getpid()) for pid in _members(place)}
        score = _score(node.pid)
    if limits["memory_mb"] is not None:
        assert limits["memory_mb"] == TOTAL_MB
        assert "total_memory" not in node.isolation.not_enforced
    if limits["cpu_percent"] is not None:
        assert limits["cpu_percent"] == 25
        assert "cpu_share" not in node.isolation.not_enforced
    assert node.pid in members
    assert os.getpid() not in members or limits["version"] == 2
    assert score == "1000"


def _score(pid):
    return Path(f"/proc/{pid}/oom_score_adj").read_text().strip()


def _members(place):
    return [int(pid) for pid in (place / "cgroup.procs").read_text().split()]


async def test_the_group_is_gone_when_the_runtime_has_closed(homes):
    async with grouped() as runtime:
        await runtime.start(spec())
        assert groups(homes, os.getpid()) != []
    assert groups(homes, os.getpid()) == []


async def test_two_runtimes_of_one_process_have_a_group_each(homes):
    async with grouped() as one, grouped() as other:
        first, second = await one.start(spec("worker-0")), await other.start(spec("worker-1"))
        assert first.isolation.layers["cgroup"] == second.isolation.layers["cgroup"] is not None
        memberships = {_groups_of(node.pid) for node in (first, second)}
        assert len(memberships) == 2
    assert groups(homes, os.getpid()) == []


def _groups_of(pid):
    return Path(f"/proc/{pid}/cgroup").read_text()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_user_who_may_write_no_group_makes_none_and_leaves_none():
    def try_to():
        if any(os.access(hierarchy.home, os.W_OK) for hierarchy in hierarchies()):
            raise FileExistsError
        assert NodeGroup.create(GroupLimits(memory_mb=None, nodes=1), ours=()) is None

    outcome = outcome_of(try_to, user="unprivileged", confinement=BARE)
    if outcome == "FileExistsError":
        pytest.skip("an ordinary user may make groups here: that they may not was NOT tested")
    assert outcome == SUCCEEDED


async def test_nodes_of_a_new_zygote_are_in_the_group_too(homes, monkeypatch):
    monkeypatch.setattr("flow_nexus_neural.runtime.local.runtime._BACKOFF_S", (0.01,) * 5)
    async with grouped() as runtime:
        first = await runtime.start(spec())
        os.kill(runtime.zygote_info().pid, signal.SIGKILL)
        await first.wait_exit()
        heir = await runtime.start(spec(incarnation=2))
        assert heir.isolation.layers["cgroup"] == first.isolation.layers["cgroup"]


SERVER = """
import anyio, sys
sys.path.insert(0, {root!r})
from tests.doubles.runtimes import open_runtime, spec

async def main():
    async with open_runtime("local") as runtime:
        node = await runtime.start(spec())
        print(node.pid, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


def _start(code):
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


async def test_what_a_killed_server_left_is_swept_by_the_next_start_and_nothing_else(homes):
    code = SERVER.format(root=str(ROOT))
    foreign = [home / f"flow-nexus-neural-of-another-{os.getpid()}" for home in homes]
    foreign += [home / f"flow-nexus-neural-nodes-{os.getpid()}-x" for home in homes]
    for place in foreign:
        place.mkdir()
    server = _start(code)
    try:
        node = int(await anyio.to_thread.run_sync(server.stdout.readline))
        alive = groups(homes, server.pid)
        async with grouped() as runtime:
            await runtime.start(spec())
            assert groups(homes, server.pid) == alive != []
        server.kill()
        server.wait()
        await until(lambda: gone(node))
        await until(lambda: not any(_members(place) for place in alive))
        assert groups(homes, server.pid) == alive
        async with grouped() as runtime:
            await runtime.start(spec())
        assert groups(homes, server.pid) == []
        assert all(place.is_dir() for place in foreign)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        for place in foreign:
            place.rmdir()
