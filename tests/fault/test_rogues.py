"""Taken over nodes under a whole engine: each is ended and named, and meanwhile nobody else notices."""

import math

import anyio
import numpy as np
import pytest

from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.errors import NodeError
from flow_nexus_neural.protocol.codec import encode
from flow_nexus_neural.protocol.messages import Failed, Ping, Pong, Predict
from flow_nexus_neural.runtime.process.last_words import _KEPT_BYTES
from tests.doubles.limits import HANG_S
from tests.doubles.runtimes import descriptors, gone, until
from tests.fault.linked import linked, state_of

pytestmark = pytest.mark.anyio

ROGUE, OTHER = "worker-0", "worker-1"
PONG = b"".join(encode(1, 1, Pong(busy=None, steps_done=0, longest_step_ms=0.0)))
LONG_FAILURE = b"".join(encode(1, 1, Failed(type="busy", message="later " * 300)))


IMPATIENT = Patience(silence_s=0.2, ping_s=0.7, min_grace_s=0.7, first_step_s=0.7)
CALM = Patience(silence_s=HANG_S)
"""Nobody is asked whether it is frozen: what else ends a node is to come first on a busy machine too."""


@pytest.fixture
async def cluster(tmp_path, how):
    frozen = ROGUES.get(how, ("", b"", "frozen"))[2] == "frozen"
    async with linked(tmp_path, 2, patience=IMPATIENT if frozen else CALM) as opened:
        yield opened


def raw(data):
    return {"x": np.zeros((1, 3), "f4"), "raw": np.frombuffer(data, "u1")}


ROGUES = {
    "half a frame": ("raw", LONG_FAILURE[: len(LONG_FAILURE) // 2], "frozen"),
    "all but the last byte, slowly": ("trickle", LONG_FAILURE[:-1], "frozen"),
    "endless replies to one call": ("flood_socket", PONG, "protocol"),
    "endless words": ("flood_stderr", b"", "frozen"),
    "an endless loop": ("loop_for_ever", b"", "frozen"),
    "a stop": ("stop_itself", b"", "frozen"),
    "a hang-up": ("hang_up", b"", "closed its connection"),
}


@pytest.mark.parametrize("how", ROGUES)
async def test_a_rogue_is_ended_and_named_and_its_neighbour_answers_all_the_while(cluster, how):
    behaviour, data, word = ROGUES[how]
    rogue, other = cluster.slot(ROGUE).handle, cluster.slot(OTHER).handle
    answered = []

    async def ask_the_rogue():
        with pytest.raises(NodeError):
            await rogue.call(Predict(network=behaviour), raw(data))

    async def ask_the_other():
        while cluster.slot(ROGUE).state != "failed":
            reply, _ = await other.call(Ping())
            answered.append(reply.kind)
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as group:
        group.start_soon(ask_the_rogue)
        group.start_soon(ask_the_other)
        status = await cluster.until(lambda s: state_of(s, ROGUE) == "failed")
    await until(lambda: gone(rogue.pid))
    assert set(answered) == {"pong"}
    told = next(node.last_error for node in status.nodes if node.slot == ROGUE)
    assert word in told
    assert told.isprintable()
    assert len((await rogue.wait_exit()).stderr_tail) <= _KEPT_BYTES
    report = await cluster.deploy()
    assert (report.slot, report.incarnation) == (ROGUE, 2)
    assert math.isfinite((await cluster.status()).uptime_seconds)


@pytest.mark.parametrize("how", ["exit", "stop"])
async def test_a_node_that_ends_or_stops_while_it_is_granted_memory_fails_that_grant(cluster, how):
    slot = cluster.slot(ROGUE)
    before = descriptors()
    region = cluster.engine.context.runtime.share(how, {"x": np.zeros(1000, "f4")})
    pid = slot.handle.pid
    with anyio.fail_after(HANG_S), pytest.raises(NodeError):
        await slot.handle.grant(region)
    region.close()
    await until(lambda: gone(pid))
    await cluster.until(lambda s: state_of(s, ROGUE) == "failed")
    await until(lambda: len(descriptors()) < len(before))
