"""From counted answers to consequences: doubted, asked by the engine, trusted again, or ended and named."""

import anyio
import numpy as np
import pytest

from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.engine.prediction.conduct import hold_to_account
from flow_nexus_neural.engine.prediction.question import Outcome, Question
from flow_nexus_neural.protocol.messages import Predict
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import running, virtual_time

PATIENT = Ports(patience=Patience(silence_s=1e6))
SLOT = "worker-0"
X = np.array([[0.5, 0.25, 0.75], [0.1, 0.2, 0.3]], "f4")
REFUSED = Outcome(None, "its answer is not finite", "refused", doubtful=True)


@pytest.fixture
def anyio_backend():
    return virtual_time()


class Service(LinearService):
    """Answers predictions wrong while `wrong` is set, and counts the rows that it is asked for."""

    wrong = False
    rows = ()

    def handle(self, request, arrays, poll):
        reply, made = super().handle(request, arrays, poll)
        if isinstance(request, Predict):
            Service.rows = (*Service.rows, len(arrays["x"]))
            if Service.wrong:
                made = {"y": made["y"] * np.nan}
        return reply, made


@pytest.fixture(autouse=True)
def fresh():
    Service.wrong, Service.rows = False, ()


def world(tmp_path):
    return running(tmp_path, 2, ports=PATIENT, service=lambda spec: Service())


async def held(w, outcome):
    slot = w.slots[SLOT]
    question = Question(w.committed, X, usual=True)
    await hold_to_account(w.cluster, slot, slot.handle, question, outcome)


async def test_an_answer_that_says_nothing_about_the_node_changes_nothing(tmp_path):
    async with world(tmp_path) as w:
        await w.train()
        before = w.slots[SLOT].conduct
        await held(w, Outcome(None, "node_unavailable: gone", None))
        assert w.slots[SLOT].conduct == before
        assert w.slots[SLOT].healthy


async def test_a_doubted_node_is_asked_again_with_one_row_and_trusted_when_it_is_right(tmp_path):
    async with world(tmp_path) as w:
        await w.train()
        Service.rows = ()
        await held(w, REFUSED)
        assert (w.slots[SLOT].state, w.slots[SLOT].healthy) == ("suspect", False)
        assert "not finite" in w.slots[SLOT].last_error
        await anyio.wait_all_tasks_blocked()
        assert Service.rows == (1,), "a caller's whole batch was sent again"
        assert w.slots[SLOT].healthy
        assert w.slots[SLOT].conduct.refused == 1


async def test_a_node_that_stays_wrong_is_ended_and_named(tmp_path):
    async with world(tmp_path) as w:
        await w.train()
        Service.wrong = True
        handle = w.slots[SLOT].handle
        await held(w, REFUSED)
        exit_ = await handle.wait_exit()
        await anyio.wait_all_tasks_blocked()
        assert exit_.reason == "killed"
        assert w.slots[SLOT].state == "failed"
        assert w.slots[SLOT].last_error.startswith("predictions_refused: ")
        assert "3 refused" in w.slots[SLOT].last_error


async def test_what_a_former_process_did_is_not_held_against_its_successor(tmp_path):
    async with world(tmp_path) as w:
        await w.train()
        former = w.slots[SLOT].handle
        await w.kill(SLOT)
        await w.deploy(layers=None)
        question = Question(w.committed, X, usual=True)
        await hold_to_account(w.cluster, w.slots[SLOT], former, question, REFUSED)
        assert w.slots[SLOT].healthy
        assert w.slots[SLOT].conduct.refused == 0
