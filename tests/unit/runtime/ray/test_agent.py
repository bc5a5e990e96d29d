"""The agent with its host process and light nodes, called as Ray would call it; Ray itself is not needed."""

import json
import os
import signal

import pytest

from flow_nexus_neural.errors import Fenced, RuntimeUnavailable
from flow_nexus_neural.protocol.codec import REPLY_HEADERS, Decoder, Frame, encode
from flow_nexus_neural.protocol.messages import Ping, Ready
from flow_nexus_neural.runtime.ray.agent import HostAgent
from flow_nexus_neural.runtime.ray.same_code import code_digest
from flow_nexus_neural.runtime.ray.wire import Splitter, pack, unpack
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.doubles.runtimes import LIGHT_ZYGOTE, gone, until

pytestmark = pytest.mark.anyio
NUMBER = 4
SPEC = {"node_id": "n1", "slot": "worker-0", "incarnation": 3, "seed": 7}


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Anything:
    """A decoder's gate that admits all."""

    def admit_lengths(self, header_bytes, body_bytes): ...

    def admit_header(self, header): ...


class Caller:
    """The driver's part, without Ray."""

    def __init__(self):
        self.agent = HostAgent(NUMBER, lease_s=1e9)
        settings = Settings(cgroup=False).model_dump(mode="json", exclude={"http_token"})
        zygote = json.dumps(LIGHT_ZYGOTE).encode()
        self.hello = json.loads(self.agent.begin(json.dumps(settings).encode(), zygote))
        self.posted = 0
        self.splitter = Splitter()
        self.told = []

    def post(self, header, *body):
        self.posted += 1
        self.agent.post(self.posted, b"".join(pack(NUMBER, header, *body)))

    def answer(self, kind):
        """The next message of a kind; what comes before it is dropped."""
        while True:
            while self.told:
                one = self.told.pop(0)
                assert one.host == NUMBER
                if one.header["kind"] == kind:
                    return one
            self.told = [unpack(raw) for raw in self.splitter.feed(self.agent.poll(HANG_S))]

    def start(self, node=1, **changed):
        spec = {**SPEC, **changed}
        self.post({"kind": "start", "node": node, "spec": spec, "ready_timeout_s": HANG_S})

    def close(self):
        self.agent._connection.shutdown(2)


@pytest.fixture
def caller():
    found = Caller()
    yield found
    found.close()


def drain(agent):
    while True:
        agent.poll(HANG_S)


def frames(body):
    found = Decoder(REPLY_HEADERS, Anything()).frames(bytes(body))
    return [frame.message for frame in found if isinstance(frame, Frame)]


async def test_a_node_is_started_confined_asked_and_killed_on_a_host(caller):
    assert caller.hello["code"] == code_digest()
    assert caller.hello["cores"] >= 1
    caller.start()
    (ready,) = frames(caller.answer("frame").body)
    assert isinstance(ready, Ready)
    started = caller.answer("started").header
    assert started["isolation"]["layers"]["no_new_privs"] is True
    told = {"kind": "frame", "node": 1, "region": None, "asked_to_stop": False}
    caller.post(told, *encode(1, 3, Ping()))
    (pong,) = frames(caller.answer("frame").body)
    assert pong.kind == "pong"
    caller.post({"kind": "kill", "node": 1, "cause": "killed: for a test"})
    exit_ = caller.answer("exit").header["exit"]
    assert (exit_["reason"], exit_["sentence"]) == ("killed", "killed by SIGKILL: for a test")
    assert gone(started["pid"])


async def test_a_frame_may_only_grant_what_the_host_holds(caller):
    caller.start()
    caller.answer("started")
    told = {"kind": "frame", "node": 1, "region": 99, "asked_to_stop": False}
    caller.post(told, *encode(1, 3, Ping()))
    assert "does not hold a region" in caller.answer("exit").header["exit"]["sentence"]


async def test_a_node_that_is_not_wanted_any_more_is_refused_and_leaves_nothing(caller):
    caller.start(seed=9003)  # it stays silent
    caller.post({"kind": "kill", "node": 1, "cause": "killed: late"})
    assert caller.answer("refused").header["error"]["type"] == "NodeStartFailed"
    caller.start(node=2)
    assert caller.answer("started").header["node"] == 2


async def test_a_message_that_comes_late_or_twice_is_refused(caller):
    caller.start()
    for number in (1, 3):
        with pytest.raises(Fenced):
            caller.agent.post(number, b"".join(pack(NUMBER, {"kind": "kill"})))
    assert caller.answer("started").header["node"] == 1


async def test_when_the_hosts_process_is_killed_its_nodes_end_and_the_agent_says_so(caller):
    caller.start()
    pid = caller.answer("started").header["pid"]
    os.kill(caller.agent.host_pid, signal.SIGKILL)
    with pytest.raises(RuntimeUnavailable):
        drain(caller.agent)
    await until(lambda: gone(pid))
