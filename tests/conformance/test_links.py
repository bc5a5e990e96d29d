"""What every runtime promises of links: a view is the right to read one buffer, and nothing else."""

import anyio
import pytest

from flow_nexus_neural.errors import NodeFault
from flow_nexus_neural.protocol.messages import LINK_LAYOUT, Announce, Cancel, Observe, Ping
from tests.conformance.test_runtime_promises import begin
from tests.doubles.runtimes import LONG_TRAIN, prepare, spec

pytestmark = pytest.mark.anyio

FIRST, SECOND, THIRD = 11, (1 << 63) - 1, 33


@pytest.fixture
async def neighbour(runtime):
    started = await runtime.start(spec("worker-1"))
    yield started
    await started.stop(grace_s=0)


async def linked(runtime, writer, reader, key="link"):
    buffer = runtime.buffer(key, LINK_LAYOUT)
    await writer.grant(buffer)
    view = runtime.view(buffer)
    await reader.grant(view)
    view.close()
    return buffer


async def seen(reader, *keys):
    reply, arrays = await reader.call(Observe(keys=keys, reads=3))
    assert arrays == {}
    return [sight and sight.token for sight in reply.sights]


async def test_a_neighbour_sees_what_the_owner_announces(runtime, node, neighbour):
    buffer = await linked(runtime, node, neighbour)
    assert await seen(neighbour, "link") == [0]
    for token in (FIRST, SECOND):
        await node.call(Announce(key="link", token=token))
        assert await seen(neighbour, "link") == [token]
    buffer.close()


async def test_the_engine_reads_what_was_announced(runtime, node):
    buffer = runtime.buffer("link", LINK_LAYOUT)
    await node.grant(buffer)
    await node.call(Announce(key="link", token=FIRST))
    assert buffer.copy()["token"].tolist() == [FIRST]
    buffer.close()


async def test_a_read_takes_a_time_that_the_node_measured(runtime, node, neighbour):
    buffer = await linked(runtime, node, neighbour)
    reply, _ = await neighbour.call(Observe(keys=("link",), reads=5))
    assert 0 <= reply.sights[0].read_ms < 10_000
    buffer.close()


async def test_only_a_granted_neighbour_can_read(runtime, node, neighbour):
    buffer = await linked(runtime, node, neighbour)
    stranger = await runtime.start(spec("worker-2"))
    await node.call(Announce(key="link", token=FIRST))
    assert await seen(stranger, "link") == [None]
    assert await seen(neighbour, "link", "another") == [FIRST, None]
    await stranger.stop(grace_s=0)
    buffer.close()


async def test_a_neighbour_cannot_announce_through_its_view(runtime, node, neighbour):
    buffer = await linked(runtime, node, neighbour)
    await node.call(Announce(key="link", token=FIRST))
    with pytest.raises(NodeFault) as caught:
        await neighbour.call(Announce(key="link", token=SECOND))
    assert caught.value.details["type"] == "ValueError"
    assert await seen(neighbour, "link") == [FIRST]
    assert buffer.copy()["token"].tolist() == [FIRST]
    buffer.close()


async def test_a_revoked_view_shows_nothing(runtime, node, neighbour):
    buffer = await linked(runtime, node, neighbour)
    await neighbour.revoke("link")
    await node.call(Announce(key="link", token=FIRST))
    assert await seen(neighbour, "link") == [None]
    buffer.close()


async def test_an_old_view_never_shows_what_is_written_into_a_new_buffer(runtime, node, neighbour):
    old = await linked(runtime, node, neighbour, "link:1")
    await node.call(Announce(key="link:1", token=FIRST))
    assert await seen(neighbour, "link:1") == [FIRST]
    new = runtime.buffer("link:2", LINK_LAYOUT)
    old.close()
    await node.grant(new)
    await node.call(Announce(key="link:2", token=SECOND))
    assert await seen(neighbour, "link:1", "link:2") == [FIRST, None]
    new.close()


@pytest.mark.usefixtures("concurrent")
async def test_a_link_works_while_both_ends_train(runtime, node, neighbour):
    link = await linked(runtime, node, neighbour)
    publish = [await prepare(runtime, trainee) for trainee in (node, neighbour)]
    async with anyio.create_task_group() as tasks:
        for trainee in (node, neighbour):
            await begin(tasks, trainee, LONG_TRAIN, [])
        assert (await neighbour.call(Ping()))[0].busy == "train"
        await node.call(Announce(key="link", token=THIRD))
        assert await seen(neighbour, "link") == [THIRD]
        for trainee in (node, neighbour):
            await trainee.call(Cancel())
    for buffer in (link, *publish):
        buffer.close()


async def test_what_is_no_link_buffer_cannot_be_announced_into_or_observed(runtime, node):
    publish = await prepare(runtime, node)
    for request in (Announce(key="publish", token=FIRST), Observe(keys=("shard",), reads=1)):
        with pytest.raises(NodeFault):
            await node.call(request)
    assert (await node.call(Ping()))[0].kind == "pong"
    publish.close()
