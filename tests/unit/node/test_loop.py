"""When a node gives back the memory that its allocator keeps: never before it has answered."""

import contextlib
import socket
import threading

import pytest

from flow_nexus_neural.node import loop
from flow_nexus_neural.node.loop import NodeLoop
from flow_nexus_neural.protocol.codec import FrameLimits, encode
from flow_nexus_neural.protocol.messages import GetWeights, Ping, Predict, Ready
from tests.doubles.limits import HANG_S
from tests.doubles.linear_service import LinearService

FOR_EVER_MS = int(HANG_S * 1000)
READY = Ready(node_id="n", incarnation=1, runtime="r", steps={}, probes={})


class Node:
    """A node's loop in a thread; `given_back` is released once for every time that it gave memory back."""

    def __init__(self, monkeypatch, idle_ms):
        self.given_back = threading.Semaphore(0)
        monkeypatch.setattr(loop, "_IDLE_MS", idle_ms)
        monkeypatch.setattr(loop, "CAN_RETURN_FREE_MEMORY", True)
        monkeypatch.setattr(loop, "return_free_memory", self._note)
        self.engine, self._connection = socket.socketpair()
        self.engine.settimeout(HANG_S)
        self._loop = NodeLoop(self._connection, LinearService(), 1, FrameLimits())
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.engine.recv(1 << 16)

    def _serve(self):
        with self._connection, contextlib.suppress(SystemExit):
            self._loop.serve(READY)

    def _note(self):
        self.given_back.release()

    def ask(self, *requests):
        for request in requests:
            self.engine.sendall(b"".join(encode(1, 1, request)))
            assert self.engine.recv(1 << 16)

    def gave_back(self):
        return self.given_back.acquire(timeout=HANG_S)

    def gives_back_nothing_more(self):
        """Ends the node: what it has not done by then it does not do."""
        self.close()
        return not self.given_back.acquire(blocking=False)

    def close(self):
        self.engine.close()
        self._thread.join(HANG_S)


@pytest.fixture
def node(monkeypatch):
    with contextlib.ExitStack() as at_the_end:

        def start(idle_ms):
            return at_the_end.enter_context(contextlib.closing(Node(monkeypatch, idle_ms)))

        yield start


def test_free_memory_is_given_back_after_the_answer_to_a_long_request(node):
    it = node(FOR_EVER_MS)
    it.ask(GetWeights(network="none"))
    assert it.gave_back()
    assert it.gives_back_nothing_more()


def test_predictions_that_follow_each_other_use_the_same_memory(node):
    it = node(FOR_EVER_MS)
    it.ask(Predict(network="none"), Predict(network="none"), Ping())
    assert it.gives_back_nothing_more()


def test_free_memory_is_given_back_once_when_no_prediction_comes_for_a_while(node):
    it = node(0)
    it.ask(Predict(network="none"))
    assert it.gave_back()
    it.ask(Ping(), Ping())
    assert it.gives_back_nothing_more()


def test_free_memory_is_given_back_only_after_the_answer(node, monkeypatch):
    it = node(FOR_EVER_MS)
    held = threading.Event()
    monkeypatch.setattr(loop, "return_free_memory", lambda: held.wait(HANG_S) and it._note())
    it.ask(GetWeights(network="none"))  # is answered while the node would still be at it
    held.set()
    assert it.gave_back()
