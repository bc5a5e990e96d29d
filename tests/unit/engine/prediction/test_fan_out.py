"""One question to all nodes: those in time are heard, the others named, nobody is waited for in vain."""

import anyio
import numpy as np
import pytest

from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.engine.prediction.fan_out import TOO_LATE, FanOut
from flow_nexus_neural.engine.prediction.question import Question
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.unit.engine.running import running, virtual_time

PATIENT = Ports(patience=Patience(silence_s=1e6, prediction_s=1e6))
X = np.array([[0.5, 0.25, 0.75]], "f4")


@pytest.fixture
def anyio_backend():
    return virtual_time()


def fan_out(w, x=X):
    return FanOut(w.cluster, Question(w.committed, x, usual=True))


async def asked(w, limit_s, patience_s=None):
    """The fan-out after a question to all workers, and the seconds that its caller waited."""
    made, began_s = fan_out(w), anyio.current_time()
    await made.ask(w.slots.of_role("worker"), limit_s, patience_s)
    return made, anyio.current_time() - began_s


async def test_all_who_answer_are_heard_and_timed(tmp_path):
    faults = FaultPlan().slow("worker-1", "predict", delay_s=2.0)
    async with running(tmp_path, 3, faults=faults, ports=PATIENT) as w:
        await w.train()
        made, waited_s = await asked(w, 10.0)
        assert sorted(made.logits) == ["worker-0", "worker-1", "worker-2"]
        assert all(logits.shape == (1, 1) for logits in made.logits.values())
        assert made.excluded == {}
        assert made.latency_ms["worker-1"] == pytest.approx(2000, abs=100)
        assert waited_s == pytest.approx(2.0, abs=0.1)


async def test_who_is_late_is_named_and_not_heard_any_more(tmp_path):
    faults = FaultPlan().slow("worker-1", "predict", delay_s=20.0)
    async with running(tmp_path, 2, faults=faults, ports=PATIENT) as w:
        await w.train()
        made, waited_s = await asked(w, 5.0)
        assert waited_s == pytest.approx(5.0, abs=0.1)
        assert made.excluded == {"worker-1": TOO_LATE}
        await anyio.sleep(30)
        assert list(made.logits) == ["worker-0"], "an answer came in after its caller had left"


async def test_within_patience_the_first_answer_is_enough(tmp_path):
    faults = FaultPlan().slow("worker-0", "predict", delay_s=8.0)
    faults.slow("worker-1", "predict", delay_s=6.0)
    async with running(tmp_path, 2, faults=faults, ports=PATIENT) as w:
        await w.train()
        made, waited_s = await asked(w, 1.0, patience_s=10.0)
        assert waited_s == pytest.approx(6.0, abs=0.1)
        assert (list(made.logits), list(made.excluded)) == (["worker-1"], ["worker-0"])


async def test_one_that_dies_while_it_is_asked_does_not_hold_up_its_caller(tmp_path):
    faults = FaultPlan().kill("worker-0", "predict")
    async with running(tmp_path, 2, faults=faults, ports=PATIENT) as w:
        await w.train()
        made, waited_s = await asked(w, 10.0)
        assert waited_s < 1.0
        assert list(made.logits) == ["worker-1"]
        assert made.excluded["worker-0"].startswith("node_died")


async def test_one_question_a_node_stays_open_and_further_ones_are_given_up(tmp_path):
    async with running(
        tmp_path, 1, faults=FaultPlan().ignore("worker-0", "predict"), ports=PATIENT
    ) as w:
        await w.train()
        slot = w.slots["worker-0"]
        await asked(w, 1.0)
        assert slot.calls == 1, "the first question is not watched"
        w.faults.slow("worker-0", "predict", nth=2, delay_s=50.0)
        made, waited_s = await asked(w, 1.0)
        assert waited_s == pytest.approx(1.0, abs=0.1)
        assert made.excluded == {"worker-0": TOO_LATE}
        await anyio.wait_all_tasks_blocked()
        assert slot.calls == 1, "a second question of the same node is kept open too"


async def test_without_a_living_node_it_returns_at_once(tmp_path):
    async with running(tmp_path, 1, ports=PATIENT) as w:
        await w.train()
        await w.kill("worker-0")
        made, waited_s = await asked(w, 10.0, patience_s=10.0)
        assert waited_s == 0.0
        assert (made.logits, made.excluded) == ({}, {})
