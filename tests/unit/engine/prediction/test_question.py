"""Which answers can be used, and which of the others speak against the node."""

import anyio
import numpy as np
import pytest

from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.engine.prediction.question import (
    Asking,
    Question,
    judged,
    put,
    tell_apart,
)
from flow_nexus_neural.protocol.messages import Outputs
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
from tests.unit.engine.building import bundle, committed, network
from tests.unit.engine.running import running, virtual_time

OWN = network()
VERSION = committed([OWN], bundle({"worker-0": 1.0}))
RIGHT = np.array([[0.5], [-0.5]], "f4")
OTHER = "f" * 64


def outcome(y=RIGHT, digest=None, *, usual=True, to_blame=True):
    question = Question(VERSION, np.zeros((2, 2), "f4"), usual)
    arrays = {} if y is None else {"y": y}
    digest = OWN.digest if digest is None else digest
    reply = Outputs.model_construct(kind="outputs", digest=digest)
    return judged(OWN, question, (reply, arrays), to_blame=to_blame)


def test_a_right_answer_is_handed_over_in_double_precision():
    found = outcome()
    assert found.conduct == "right"
    assert not found.doubtful
    assert found.logits.dtype == np.float64
    assert np.array_equal(found.logits, RIGHT)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"y": None}, "wrong shape"),
        ({"y": RIGHT[:1]}, "wrong shape"),
        ({"digest": OTHER}, "another version"),
        ({"y": RIGHT * np.inf}, "not finite"),
        ({"y": RIGHT * np.nan}, "not finite"),
    ],
)
def test_an_answer_that_no_honest_node_gives_counts_against_it(answer, reason):
    found = outcome(**answer)
    assert found.logits is None
    assert reason in found.reason
    assert (found.conduct, found.doubtful) == ("refused", True)


@pytest.mark.parametrize(
    "answer",
    [
        {"y": RIGHT * np.inf, "usual": False},  # a record beyond all training rows may overflow
        {"digest": OTHER, "to_blame": False},  # the next version was loaded meanwhile
    ],
)
def test_an_answer_that_an_honest_node_can_give_is_left_out_and_not_counted(answer):
    found = outcome(**answer)
    assert found.logits is None
    assert (found.conduct, found.doubtful) == (None, False)


def test_the_engine_asks_again_with_one_record_only():
    whole = Question(VERSION, np.arange(6, dtype="f4").reshape(3, 2), usual=True)
    part = whole.first_row()
    assert part.x.shape == (1, 2)
    assert (part.committed, part.usual) == (whole.committed, whole.usual)


@pytest.fixture
def anyio_backend():
    return virtual_time()


class Inventive(LinearService):
    """Answers with a digest that no version ever had."""

    def handle(self, request, arrays, poll):
        reply, sent = super().handle(request, arrays, poll)
        if request.kind == "predict":
            reply = reply.model_copy(update={"digest": "ab" * 32})
        return reply, sent


@pytest.mark.parametrize(("kind", "conduct"), [(LinearService, None), (Inventive, "refused")])
@pytest.mark.anyio
async def test_of_a_version_that_was_replaced_only_an_invented_digest_counts_against_a_node(
    tmp_path, kind, conduct
):
    async with running(tmp_path, 1, service=lambda spec: kind()) as w:
        await w.train()
        former = w.committed
        await w.train()
        assert former.digests != w.committed.digests
        question = Question(former, np.zeros((1, 3), "f4"), usual=True)
        found = await put(w.cluster, w.slots["worker-0"], question)
        assert found.logits is None
        assert "another version" in found.reason
        assert found.conduct == conduct


@pytest.mark.anyio
async def test_a_question_that_begins_late_is_not_taken_for_withheld(tmp_path):
    ports = Ports(patience=Patience(silence_s=1e6, prediction_s=5.0))
    faults = FaultPlan().slow("worker-0", "predict", delay_s=2.0)
    async with running(tmp_path, 1, faults=faults, ports=ports) as w:
        await w.train()
        question = Question(w.committed, np.zeros((1, 3), "f4"), usual=True)
        asking = Asking(w.cluster, w.slots["worker-0"], question)
        async with anyio.create_task_group() as group:
            group.start_soon(tell_apart, w.cluster, (asking,))
            await anyio.sleep(6.0)  # a ping that went out now would be answered before the question
            found = await asking.outcome()
            group.cancel_scope.cancel()
        assert (found.conduct, found.reason) == ("right", "")
