"""Several nodes in one process: each is answered on its own socket, and orders given together wait."""

import contextlib
import socket
import threading

import numpy as np
import pytest

from flow_nexus_neural.node import gathering
from flow_nexus_neural.node.cohort import train_together
from flow_nexus_neural.node.hosting import Hosting
from flow_nexus_neural.node.loop import NodeLoop
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.codec import REPLY_HEADERS, Decoder, FrameLimits, encode, pack
from flow_nexus_neural.protocol.digest import weights_digest
from flow_nexus_neural.protocol.messages import (
    Build,
    Cancel,
    Done,
    Failed,
    GetWeights,
    Grant,
    Host,
    Pass,
    Ping,
    Pong,
    Ready,
    Shutdown,
    Together,
    Trained,
)
from tests.doubles.limits import HANG_S
from tests.unit.node.building import FLAT, plan_of, rows, train_request

READY = Ready(node_id="n0", incarnation=1, runtime="r", steps={}, probes={})
LAYERS = [{"type": "dense", "units": 4, "activation": "relu"}]
COUNT = 40


class Line:
    """The engine's end of one node's socket."""

    def __init__(self, engine, incarnation):
        engine.settimeout(HANG_S)
        self.engine, self.incarnation = engine, incarnation
        self._decoder = Decoder(REPLY_HEADERS, FrameLimits(), tolerant=True)
        self._frames, self._last = [], 0

    def send(self, request, arrays=None, *, incarnation=None, descriptor=None):
        self._last += 1
        data = b"".join(encode(self._last, incarnation or self.incarnation, request, arrays or {}))
        socket.send_fds(self.engine, [data], [] if descriptor is None else [descriptor])
        return self._last

    def frame(self):
        while not self._frames:
            data = self.engine.recv(1 << 18)
            if not data:
                raise EOFError
            self._frames += list(self._decoder.feed(memoryview(data)))
        return self._frames.pop(0)

    def reply(self):
        return self.frame().message

    def ask(self, *args, **kwargs):
        self.send(*args, **kwargs)
        return self.frame().message


class Process:
    """A hosting loop in a thread."""

    def __init__(self, together=train_together, most=8):
        engine, own = socket.socketpair()
        hosting = Hosting(
            lambda order: NodeService(node_id=order.node_id, incarnation=1, seed=order.seed),
            lambda order: READY.model_copy(
                update={"node_id": order.node_id, "incarnation": order.incarnation}
            ),
            together,
            most,
        )
        first = NodeService(node_id="n0", incarnation=1, seed=0)
        self.loop = NodeLoop(own, first, 1, FrameLimits(), hosting if together else None)
        self.lines = [Line(engine, 1)]
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        assert self.lines[0].reply() == READY

    def _serve(self):
        with contextlib.suppress(SystemExit):
            self.loop.serve(READY)
        self.ended.set()

    def host(self, guide=0, incarnation=None):
        number = len(self.lines)
        engine, theirs = socket.socketpair()
        incarnation = incarnation or number + 1
        order = Host(node_id=f"n{number}", incarnation=incarnation, seed=number)
        with theirs:
            reply = self.lines[guide].ask(order, descriptor=theirs.fileno())
        if reply != Done():
            engine.close()
            return reply
        self.lines.append(Line(engine, incarnation))
        assert self.lines[-1].reply().node_id == f"n{number}"
        return reply

    def published(self):
        """A copy of what each node has written into its buffer."""
        regions = [one.service._regions["publish"].arrays for one in self.loop._members]
        return [{name: a.copy() for name, a in arrays.items()} for arrays in regions]

    def close(self):
        for line in self.lines:
            line.engine.close()
        assert self.ended.wait(HANG_S)
        self._thread.join(HANG_S)


@pytest.fixture
def process():
    with contextlib.ExitStack() as at_the_end:

        def start(n_nodes=2, **more):
            made = at_the_end.enter_context(contextlib.closing(Process(**more)))
            for _ in range(n_nodes - 1):
                assert made.host() == Done()
            return made

        yield start


def prepared(line, number, plan, count=COUNT):
    """A node with a network, a shard, a base and a buffer, whose arrays come in the frames."""
    line.ask(Build(network="net", plan=plan, seed=number))
    line.send(GetWeights(network="net"))
    state = dict(line.frame().arrays)
    state |= {name: np.zeros_like(state["params"]) for name in ("m", "v")}
    x = rows(count, plan.input, number)
    y = (x[:, 0] > 0).astype(np.float32)
    for key, arrays, writable in (
        ("base", state, False),
        ("publish", {name: np.zeros_like(a) for name, a in state.items()}, True),
        ("shard", {"x": x, "y": y}, False),
    ):
        grant = _grant(key, arrays, writable=writable)
        assert line.ask(grant, arrays) == Done()


def _grant(key, arrays, *, writable):
    layout, nbytes = pack(arrays)
    return Grant(key=key, writable=writable, nbytes=nbytes, arrays=layout)


def order(number, size=None, round_=1, **more):
    together = None if size is None else Together(round=round_, size=size, place=number)
    passes = (Pass(order_seed=number),)
    return train_request(dropout_seed=number, passes=passes, together=together, **more)


def trained(made, size=None, **more):
    for number, line in enumerate(made.lines):
        line.send(order(number, size, **more))
    return [line.reply() for line in made.lines]


def test_each_node_is_answered_on_its_own_socket_and_under_its_own_incarnation(process):
    made = process(3)
    for line in reversed(made.lines):
        line.send(Ping())
    for line in made.lines:
        frame = line.frame()
        assert isinstance(frame.message, Pong)
        assert (frame.incarnation, frame.call_id) == (line.incarnation, line._last)


def test_an_order_for_another_member_of_the_process_is_fenced(process):
    made = process(2)
    other = made.lines[1].incarnation
    for request in (Ping(), order(0, 2), Shutdown()):
        reply = made.lines[0].ask(request, incarnation=other)
        assert (reply.type, isinstance(reply, Failed)) == ("fenced", True)
    assert isinstance(made.lines[1].ask(Ping()), Pong)


def test_regions_and_networks_of_one_node_are_not_the_others(process):
    made = process(2)
    prepared(made.lines[0], 0, plan_of(LAYERS, FLAT))
    for request in (GetWeights(network="net"), order(0)):
        reply = made.lines[1].ask(request)
        assert (reply.type, "has no network 'net'" in reply.message) == ("LookupError", True)


def test_orders_given_together_are_stacked_and_give_each_what_it_gets_alone(process):
    made, plan = process(3), plan_of(LAYERS, FLAT)
    for number, line in enumerate(made.lines):
        prepared(line, number, plan, COUNT + 5 * number)
    alone = trained(made)
    states_alone = made.published()
    stacked = trained(made, size=3, round_=9)
    assert [reply.stacked for reply in alone] == [None] * 3
    assert [reply.stacked for reply in stacked] == [3] * 3
    for one, other in zip(alone, stacked, strict=True):
        assert (one.steps, one.opt_step) == (other.steps, other.opt_step)
        assert one.loss == pytest.approx(other.loss, abs=1e-6)
    for one, other, reply in zip(states_alone, made.published(), stacked, strict=True):
        for name, vector in other.items():
            np.testing.assert_allclose(vector, one[name], rtol=0, atol=1e-6)
        assert weights_digest(plan, other["params"], other["buffers"]) == reply.digest


def test_what_is_not_alike_is_trained_by_itself(process):
    made, plan = process(4), plan_of(LAYERS, FLAT)
    plans = [plan, plan_of([*LAYERS, {"type": "batch_normalization"}], FLAT), plan, plan]
    for number, line in enumerate(made.lines):
        prepared(line, number, plans[number])
    for number, line in enumerate(made.lines):
        line.send(order(number, 4, **({"learning_rate": 0.5} if number == 3 else {})))
    assert [line.reply().stacked for line in made.lines] == [2, None, 2, None]


class Paused:
    """Trains together, and between the first steps answers requests until it is let go."""

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, seats, between_steps):
        def answer():
            between_steps()
            self.begun.set()
            while not self.go_on.is_set():
                between_steps()

        train_together(seats, answer)


@pytest.mark.parametrize("cancelled", [True, False])
def test_what_waits_for_a_stack_to_end_answers_meanwhile_and_can_be_cancelled(process, cancelled):
    paused = Paused()
    made, plan = process(3, together=paused), plan_of(LAYERS, FLAT)
    plans = [plan, plan, plan_of([*LAYERS, {"type": "batch_normalization"}], FLAT)]
    for number, line in enumerate(made.lines):
        prepared(line, number, plans[number])
    for number, line in enumerate(made.lines):
        line.send(order(number, 3))
    assert paused.begun.wait(HANG_S)
    other = made.lines[2]
    try:
        if cancelled:
            assert other.ask(Cancel()) == Done()
            assert other.reply().type == "cancelled"
        assert isinstance(other.ask(Ping()), Pong)
    finally:
        paused.go_on.set()
    assert [line.reply().stacked for line in made.lines[:2]] == [2, 2]
    if not cancelled:
        assert isinstance(other.reply(), Trained)


def test_a_wrong_order_fails_alone(process):
    made, plan = process(3), plan_of(LAYERS, FLAT)
    for number, line in enumerate(made.lines):
        prepared(line, number, plan)
    for number, line in enumerate(made.lines):
        line.send(order(number, 3, **({"base": "gone"} if number == 1 else {})))
    replies = [line.reply() for line in made.lines]
    assert [type(reply) for reply in replies] == [Trained, Failed, Trained]
    assert "was granted no region 'gone'" in replies[1].message


def test_those_that_have_come_do_not_wait_for_ever_for_the_rest(process, monkeypatch):
    monkeypatch.setattr(gathering, "PATIENCE_S", 0.01)
    made, plan = process(3), plan_of(LAYERS, FLAT)
    for number, line in enumerate(made.lines[:2]):
        prepared(line, number, plan)
    for number, line in enumerate(made.lines[:2]):
        line.send(order(number, 3))
    assert all(isinstance(line.reply(), Trained) for line in made.lines[:2])


def test_a_cancelled_order_has_come_and_is_waited_for_no_longer(process, monkeypatch):
    monkeypatch.setattr(gathering, "PATIENCE_S", HANG_S * 10)
    made, plan = process(4), plan_of(LAYERS, FLAT)
    for number, line in enumerate(made.lines[:3]):
        prepared(line, number, plan)
    first = made.lines[0]
    first.send(order(0, 3))
    first.send(Cancel())
    assert first.reply() == Done()
    assert first.reply().type == "cancelled"
    for number in (1, 2):
        made.lines[number].send(order(number, 3))
    assert [line.reply().stacked for line in made.lines[1:3]] == [2, 2]


class Held:
    """A training together that goes on until it is let go, answering requests meanwhile."""

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, seats, between_steps):
        self.begun.set()
        while not self.go_on.is_set():
            between_steps()
        train_together(seats, between_steps)


@pytest.fixture
def held(process):
    """A process of three nodes, which is training the first two."""
    training = Held()
    made, plan = process(3, together=training), plan_of(LAYERS, FLAT)
    for number, line in enumerate(made.lines):
        prepared(line, number, plan)
    for number, line in enumerate(made.lines[:2]):
        line.send(order(number, 2))
    assert training.begun.wait(HANG_S)
    try:
        yield made, training.go_on
    finally:
        training.go_on.set()


def test_short_requests_of_every_node_are_answered_while_some_train(held):
    made, go_on = held
    assert all(isinstance(line.ask(Ping()), Pong) for line in made.lines)
    go_on.set()
    assert [line.reply().stacked for line in made.lines[:2]] == [2, 2]


def test_a_long_request_waits_until_the_others_have_trained_and_a_second_one_is_refused(held):
    made, go_on = held
    other = made.lines[2]
    other.send(order(2))
    assert other.ask(GetWeights(network="net")).type == "busy"
    assert isinstance(other.ask(Ping()), Pong)
    go_on.set()
    assert isinstance(other.reply(), Trained)
    assert [line.reply().stacked for line in made.lines[:2]] == [2, 2]


def test_one_that_is_cancelled_leaves_the_others_training(held):
    made, go_on = held
    assert made.lines[0].ask(Cancel()) == Done()
    go_on.set()
    assert made.lines[0].reply().type == "cancelled"
    assert isinstance(made.lines[1].reply(), Trained)


@pytest.mark.parametrize("by", ["shutdown", "closed socket"])
def test_one_that_leaves_in_a_training_leaves_the_others(held, by):
    made, go_on = held
    leaving = made.lines[0]
    if by == "shutdown":
        assert leaving.ask(Shutdown()) == Done()
        with pytest.raises(EOFError):
            leaving.reply()
    else:
        leaving.engine.close()
    go_on.set()
    assert isinstance(made.lines[1].reply(), Trained)
    assert isinstance(made.lines[2].ask(Ping()), Pong)
    assert not made.ended.is_set()


def test_the_process_ends_with_its_last_node(process):
    made = process(2)
    assert made.lines[0].ask(Shutdown()) == Done()
    assert isinstance(made.lines[1].ask(Ping()), Pong)
    assert made.lines[1].ask(Shutdown()) == Done()
    assert made.ended.wait(HANG_S)


def test_a_node_can_be_brought_in_over_any_other_even_after_the_first_has_left(process):
    made = process(2)
    assert made.lines[0].ask(Shutdown()) == Done()
    assert made.host(guide=1) == Done()
    assert isinstance(made.lines[2].ask(Ping()), Pong)


def test_a_process_takes_in_no_more_than_its_start_allows(process):
    made = process(2, most=2)
    reply = made.host()
    assert "hosts 2 nodes, the most it may" in reply.message


def test_a_process_of_one_node_hosts_no_other(process):
    made = process(1, together=None)
    assert made.host().type == "no_host"


def test_an_order_to_host_without_a_socket_is_refused(process):
    made = process(1)
    reply = made.lines[0].ask(Host(node_id="n9", incarnation=2, seed=1))
    assert "no descriptor came" in reply.message
