"""When inputs are compared, and how an input is named; `tests/sim` compares them with rows on disk."""

from types import SimpleNamespace

import pytest

from flow_nexus_neural.engine.state.feedback import Feedback, InputDrift
from flow_nexus_neural.engine.versions import input_drift as module
from flow_nexus_neural.engine.versions.input_drift import (
    _column,
    input_drift,
    watch_inputs,
)
from flow_nexus_neural.errors import StoreCorrupt
from tests.unit.engine.building import bundle, cluster_state, committed, live, network, schema

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def cluster(recorded):
    state = cluster_state()
    state.committed = committed([network()], bundle({"worker-0": 1.0}))
    state.note_feedback(Feedback(recorded=recorded))
    return live(state)


async def test_without_a_version_or_outcomes_nothing_is_read():
    assert await input_drift(live(cluster_state())) is None
    found = await input_drift(cluster(0))
    assert (found.index, found.why) == (None, "0 of 200 recorded inputs")


async def test_a_comparison_holds_for_fifty_outcomes_of_its_version():
    of = cluster(249)
    known = InputDrift(3, 200, 200, 0.1, "f0")
    of.keep_inputs(known)
    assert await input_drift(of) is known
    of.state.note_feedback(Feedback(recorded=250))
    with pytest.raises(AttributeError):  # it reads the store, which this cluster does not have
        await input_drift(of)
    of.keep_inputs(InputDrift(2, 250, 200, 0.1, "f0"))
    with pytest.raises(AttributeError):
        await input_drift(of)


async def test_outcomes_that_arrive_during_a_comparison_are_not_counted_as_compared(monkeypatch):
    of = cluster(250)

    class Store:
        async def outcomes(self, _cluster_id, _limit):
            of.state.note_feedback(Feedback(recorded=550))
            return [], False

    async def on_the_spot(function, *arguments):
        return function(*arguments)

    of.context = SimpleNamespace(store=Store(), offload=on_the_spot)
    assert (await input_drift(of)).recorded == 250


async def test_what_cannot_be_compared_harms_nobody(monkeypatch, caplog):
    async def corrupt(_):
        raise StoreCorrupt("damaged")

    monkeypatch.setattr(module, "input_drift", corrupt)
    of = cluster(300)
    await watch_inputs(of)
    assert of.inputs is None
    assert "inputs of dnc_1 are not compared" in caplog.text


def test_an_input_has_the_name_of_its_column_at_every_step():
    windows = schema(input={"vector_length": 0, "n_scalars": 2, "window": 3})
    assert [_column(windows, n) for n in range(6)] == ["f0", "f1"] * 3
    assert [_column(schema(), n) for n in range(2)] == ["f0", "f1"]
