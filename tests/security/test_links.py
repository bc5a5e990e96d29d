"""A link in the hands of a node that keeps every descriptor and mapping: it reads its neighbour, no more."""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.requests import ConnectRequest, DeployRequest, InitRequest
from flow_nexus_neural.errors import NodeDied
from flow_nexus_neural.protocol.messages import LINK_LAYOUT, Announce, Build, Observe, Predict
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess
from flow_nexus_neural.settings import Settings
from tests.doubles.linear_service import linear_plan
from tests.doubles.runtimes import spec

pytestmark = pytest.mark.anyio

COMMAND = (sys.executable, "-I", str(Path(__file__).with_name("thieving_zygote.py")))
launch = partial(ZygoteProcess.launch, COMMAND)
ANSWER_CHARACTERS = 2000
TOKEN, NEXT = 1111, 2222

OUTCOMES = {
    "map it writable": "EACCES",
    "make a mapping of it writable": "EACCES",
    "write to it": "EBADF",
    "write at a place": "EPERM",
    "truncate it": "EPERM",
    "seal it": "EPERM",
    "open it for writing": "EPERM",
    "open it again": "ENOENT",
    "open it again for reading": "ENOENT",
    "copy the descriptor": "EPERM",
    "copy it by fcntl": "EPERM",
    "pass it on": "EPERM",
    "read it by read": "EPERM",
    "wake a neighbour through it": "EPERM",
    "write through a mapping": "SIGSEGV",
}


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def runtime(anyio_backend):
    async with LocalRuntime(Settings(require_isolation="strict"), launch=launch) as opened:
        yield opened


@pytest.fixture
async def three(runtime):
    """A writer, its neighbour and a stranger; the writer has announced."""
    nodes = [await runtime.start(spec(f"worker-{i}")) for i in range(3)]
    buffers = []
    for number, node in enumerate(nodes):
        buffers.append(runtime.buffer(f"link:{number}", LINK_LAYOUT))
        await node.grant(buffers[-1])
    view = runtime.view(buffers[0])
    await nodes[1].grant(view)
    view.close()
    await nodes[0].call(Announce(key="link:0", token=TOKEN))
    yield nodes
    for node in nodes:
        await node.stop(grace_s=0)
    for buffer in buffers:
        buffer.close()


async def obey(node, name, key=None):
    """Have a node carry out a command; what it answered."""
    await node.call(Build(network="commands", plan=linear_plan(), seed=1))
    order = np.frombuffer(json.dumps({"name": name, "key": key}).encode(), "u1")
    rows = np.zeros((ANSWER_CHARACTERS, 3), "f4")
    _, arrays = await node.call(Predict(network="commands"), {"x": rows, "command": order})
    return json.loads(arrays["y"].astype("u1").tobytes())


@pytest.mark.parametrize("name", OUTCOMES)
async def test_a_neighbour_cannot(three, name):
    writer, neighbour, _ = three
    try:
        outcome = await obey(neighbour, name, "link:0")
    except NodeDied:
        outcome = (await neighbour.wait_exit()).signal
    assert outcome == OUTCOMES[name]
    reply, _ = await writer.call(Observe(keys=("link:0",), reads=1))
    assert reply.sights[0].token == TOKEN


async def test_every_attack_is_tried(runtime):
    from tests.security.thieving_zygote import ATTACKS

    assert set(OUTCOMES) == set(ATTACKS)


async def test_no_descriptor_leads_to_the_buffer_of_a_node_that_is_no_neighbour(three):
    writer, neighbour, stranger = three
    assert TOKEN in await obey(writer, "readable")
    assert sorted(await obey(neighbour, "readable")) == [0, TOKEN]
    assert await obey(stranger, "readable") == [0]


async def test_a_view_that_was_kept_shows_the_past_for_ever(runtime, three):
    writer, neighbour, _ = three
    assert (await obey(neighbour, "kept"))["link:0"] == TOKEN
    await neighbour.revoke("link:0")
    await writer.revoke("link:0")
    fresh = runtime.buffer("link:0 again", LINK_LAYOUT)
    await writer.grant(fresh)
    await writer.call(Announce(key="link:0 again", token=NEXT))
    fresh.close()
    assert await obey(neighbour, "kept") == {"link:1": 0, "link:0": TOKEN}
    assert sorted(await obey(neighbour, "readable")) == [0, TOKEN]


async def test_after_a_connect_no_kept_mapping_shows_what_a_former_neighbour_announces(tmp_path):
    settings = Settings(state_dir=tmp_path)
    async with (
        LocalRuntime(settings, launch=launch) as runtime,
        Engine.open(settings, runtime=runtime) as engine,
    ):
        cluster_id = (
            await engine.init_cluster(InitRequest(name="thieves", daa_enabled=False))
        ).cluster_id
        for _ in range(4):
            await engine.deploy_node(DeployRequest(cluster_id=cluster_id))
        cluster = engine.cluster(cluster_id)
        await engine.connect(ConnectRequest(cluster_id=cluster_id, topology="mesh"))
        in_mesh = {slot.name: cluster.wiring.token(slot.name) for slot in cluster.slots}
        await engine.connect(ConnectRequest(cluster_id=cluster_id, topology="ring"))
        in_ring = {slot.name: cluster.wiring.token(slot.name) for slot in cluster.slots}
        thief = cluster.slots["worker-0"].handle
        kept = set((await obey(thief, "kept")).values())
        readable = set(await obey(thief, "readable"))
    neighbours = {"worker-0", "worker-1", "worker-3"}
    assert kept == readable == {*in_mesh.values(), *(in_ring[name] for name in neighbours)}
    assert in_ring["worker-2"] not in kept
