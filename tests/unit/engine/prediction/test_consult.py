"""The hop to nodes that combine what others answered."""

from types import SimpleNamespace

import numpy as np
import pytest

from flow_nexus_neural.engine.prediction import consult
from flow_nexus_neural.engine.prediction.consult import stack_rows, with_roles
from tests.unit.engine.prediction.test_role_use import answer
from tests.unit.engine.state.test_roles import OPEN, roles


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_nobody_is_asked_where_no_answer_would_be_used():
    made = answer("mean")
    assert await with_roles(None, made, 1.0) is made


def test_a_stacking_network_reads_who_answered_and_who_did_not():
    layout = roles().layout
    whole = stack_rows(answer())
    assert whole.shape == (1, layout.n_features)
    assert whole[0, 1] == 1.0, "the mask of worker-0"
    half = stack_rows(answer(logits={"worker-1": np.zeros((1, 1))}))
    assert half[0, 1] == 0.0


async def test_all_hops_together_have_what_is_left_of_the_deadline(monkeypatch):
    now, limits = [10.0], []

    async def slow(_cluster, _question, purpose, limit_s):
        limits.append((purpose, round(limit_s, 6)))
        now[0] += 0.7
        return (
            consult.Heard({}, {})
            if purpose != "stacker"
            else consult.Heard({"a": np.zeros((1, 1))})
        )

    monkeypatch.setattr(consult, "ask_role", slow)
    made = answer(made_of=roles(gates={"stacker": OPEN, "confidence:ensemble": OPEN}))
    await with_roles(SimpleNamespace(clock=lambda: now[0]), made, 11.0)
    assert limits == [("stacker", 1.0), ("confidence", 0.3)]
