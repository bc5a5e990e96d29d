"""An action that goes wrong is an outcome, and never more than that."""

from dataclasses import replace

import pytest

from flow_nexus_neural.coordination.autonomy.observation import RULES
from flow_nexus_neural.coordination.autonomy.planner import Decision
from flow_nexus_neural.engine.autonomy import execute as module
from flow_nexus_neural.engine.autonomy.execute import MAX_OUTCOME_CHARS, execute
from flow_nexus_neural.engine.training.resume import Resumption
from flow_nexus_neural.errors import NodeDied
from flow_nexus_neural.protocol.node_words import CUT
from tests.unit.engine.autonomy.attended import cluster
from tests.unit.engine.building import training

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def decision(kind="restart_node", target="worker-0"):
    rule = RULES[kind]
    return Decision(kind, rule.scope, target, rule.level, 0.8, "executed")


async def test_a_slot_that_lives_again_is_left_alone():
    done = await execute(cluster(), decision())
    assert (done.ok, done.outcome) == (True, "somebody else had restarted it")
    assert done.before == done.after


async def test_a_slot_that_was_removed_meanwhile_is_an_outcome():
    done = await execute(cluster(), decision(target="worker-9"))
    assert not done.ok
    assert done.outcome.startswith("failed: node_not_found")


@pytest.mark.parametrize("failure", [NodeDied("x" * 1000), RuntimeError("a bug")])
async def test_what_goes_wrong_is_told_and_cut(monkeypatch, failure):
    async def deploy(*_):
        raise failure

    monkeypatch.setattr(module, "deploy", deploy)
    made = cluster()
    made.context.incident = lambda: "beef"
    made.slots["worker-0"].detach()
    made.slots["worker-0"].move("failed")
    done = await execute(made, decision())
    assert not done.ok
    assert done.outcome.startswith("failed: ")
    assert len(done.outcome) <= MAX_OUTCOME_CHARS + len(CUT)
    assert ("beef" in done.outcome) is isinstance(failure, RuntimeError)


def test_every_action_can_be_carried_out():
    assert module._PERFORMED.keys() == RULES.keys()


async def test_of_a_training_that_is_only_coming_back_nothing_is_said_to_have_changed():
    made = cluster()
    made.begin_run(Resumption(made, training()))
    change = {"learning_rate": 0.03, "back_to_best": True}
    done = await execute(made, replace(decision("adapt_learning_rate", "cluster"), change=change))
    assert not done.ok
    assert "not steered" in done.outcome
    assert made.run.training.steering.learning_rate is None
