"""A prediction rests on the nodes that answered in time with the version it names, and on no other."""

import anyio
import numpy as np
import pytest

from flow_nexus_neural.engine.patience import Patience
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.engine.prediction.predict import (
    LATE_ANSWER_S,
    QUEUE,
    deadline_s,
    predict,
)
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.errors import (
    InvalidArguments,
    NodeNotFound,
    NoServingNode,
    NotTrained,
    Overloaded,
)
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import OTHER_LAYERS, running, virtual_time

RECORD = [0.5, 0.25, 0.75]
PATIENT = Ports(patience=Patience(silence_s=1e6))
"""Nodes that are slow on purpose here are not doubted."""


@pytest.fixture
def anyio_backend():
    return virtual_time()


def request(record=RECORD, **more):
    return PredictRequest(cluster_id="dnc", input_data=record, **more)


async def answered(w, record=RECORD, **more):
    return await predict(w.cluster, request(record, **more))


def by_hand(version, record):
    """What the committed weights say of a record, computed from the schema alone."""
    schema = version.schema
    scaled = [
        (value - column.mean[0]) / column.sd[0]
        for value, column in zip(record, schema.columns, strict=True)
    ]
    params = version.networks["c0"].state.params.astype("f8")
    output = float(np.dot(scaled, params[:3]) + params[3])
    return output * schema.target_sd + schema.target_mean


def node_id(w, name):
    return w.slots[name].node_id


def reasons(w, answer):
    names = {slot.node_id: slot.name for slot in w.slots}
    return {names[one.node_id]: one.reason for one in answer.excluded_nodes}


async def test_an_answer_is_what_the_committed_weights_compute(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        records = [RECORD, [0.0, 0.0, 0.0], [1.0, 0.5, 0.25]]
        answer = await answered(w, records)
        expected = [by_hand(w.committed, record) for record in records]
        assert answer.predictions == pytest.approx(expected, rel=1e-4)
        assert (answer.nodes_used, answer.nodes_expected) == (2, 2)
        assert answer.model_version == w.committed.version
        assert answer.bundle_sha == w.committed.sha


async def test_without_a_version_the_hint_says_what_is_missing(tmp_path):
    faults = FaultPlan().slow("worker-0", "train", delay_s=60)
    async with running(tmp_path, 1, faults=faults) as w:
        with pytest.raises(NotTrained, match="has no trained model yet") as refusal:
            await answered(w)
        assert refusal.value.hint.startswith("call neural_train_distributed")
        await w.engine.train(w.train_request())
        with pytest.raises(NotTrained, match="its first round is not committed") as refusal:
            await answered(w)
        assert refusal.value.hint.startswith("wait with neural_cluster_status")


async def test_a_node_that_dies_while_it_is_asked_is_named_and_the_others_answer(tmp_path):
    faults = FaultPlan().kill("worker-1", "predict")
    async with running(tmp_path, 3, faults=faults) as w:
        await w.train()
        answer = await answered(w)
        assert (answer.nodes_used, answer.nodes_expected) == (2, 3)
        assert reasons(w, answer)["worker-1"].startswith("node_died")
        assert answer.prediction == pytest.approx(by_hand(w.committed, RECORD), rel=1e-4)
        later = await answered(w)  # it is not asked any more
        assert reasons(w, later)["worker-1"].startswith("node_died")
        assert faults.met("worker-1", "predict") == 1


async def test_the_callers_deadline_is_kept_to_the_millisecond(tmp_path):
    faults = FaultPlan().slow("worker-1", "predict", delay_s=60)
    async with running(tmp_path, 2, faults=faults, ports=PATIENT) as w:
        await w.train()
        began_s = anyio.current_time()
        answer = await answered(w, deadline_ms=700)
        assert anyio.current_time() - began_s == pytest.approx(0.7)
        assert answer.latency_ms == pytest.approx(700)
        assert reasons(w, answer) == {"worker-1": "no answer before the deadline"}


async def test_nobody_in_time_is_an_error_that_says_how_many_were_asked(tmp_path):
    faults = FaultPlan().slow("worker-0", "predict", delay_s=60)
    async with running(tmp_path, 1, faults=faults, ports=PATIENT) as w:
        await w.train()
        with pytest.raises(NoServingNode, match=r"0 of 1 serving nodes .*deadline 700 ms"):
            await answered(w, deadline_ms=700)


@pytest.mark.parametrize(("delay_s", "late"), [(LATE_ANSWER_S, False), (60.0, True)])
async def test_without_a_deadline_of_ones_own_a_late_first_answer_is_waited_for(
    tmp_path, delay_s, late
):
    faults = FaultPlan().slow("worker-0", "predict", delay_s=delay_s)
    async with running(tmp_path, 1, faults=faults, ports=PATIENT) as w:
        await w.train()
        began_s = anyio.current_time()
        if late:
            with pytest.raises(NoServingNode):
                await answered(w)
            allowed_s = deadline_s(w.engine.context, request(), 1) + LATE_ANSWER_S
            assert anyio.current_time() - began_s == pytest.approx(allowed_s)
        else:
            assert (await answered(w)).nodes_used == 1
            assert anyio.current_time() - began_s == pytest.approx(delay_s)


async def test_the_default_deadline_grows_with_the_rows_up_to_a_bound(tmp_path):
    async with running(tmp_path, 0, predict_deadline_ms=1000) as w:
        context = w.engine.context
        assert deadline_s(context, request(), 1) == 1.0
        assert deadline_s(context, request(), 101) == 1.5
        assert deadline_s(context, request(), 10**6) == 20.0
        assert deadline_s(context, request(deadline_ms=50), 10**6) == 0.05


class Odd(LinearService):
    """Answers a prediction in a way that must not be believed."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def on_predict(self, request, arrays, poll):
        reply, made = super().on_predict(request, arrays, poll)
        if self.way == "not finite":
            return reply, {"y": made["y"] * np.float32("nan")}
        if self.way == "weights of another version":
            return reply.model_copy(update={"digest": "0" * 64}), made
        return reply, {"y": np.concatenate([made["y"], made["y"]])}


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("not finite", "not finite"),
        ("weights of another version", "weights of another version"),
        ("one row more", "protocol_violation"),
    ],
)
async def test_an_answer_that_cannot_be_of_this_version_is_left_out(tmp_path, way, told):
    def make(spec):
        return Odd(way) if spec.slot == "worker-0" else LinearService()

    async with running(tmp_path, 2, service=make) as w:
        await w.train()
        answer = await answered(w)
        assert answer.nodes_used == 1
        assert told in reasons(w, answer)["worker-0"]
        assert answer.prediction == pytest.approx(by_hand(w.committed, RECORD), rel=1e-4)


async def test_the_callers_weights_decide_who_counts(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.deploy(layers=OTHER_LAYERS)
        await w.train()
        assert len(w.committed.networks) == 2  # so that two nodes say something different
        own = {}
        for name in ("worker-0", "worker-1"):
            answer = await answered(w, aggregation="weighted", weights={name: 1.0})
            own[name] = answer.prediction
        both = await answered(w, aggregation="weighted", weights={"worker-0": 3.0, "worker-1": 1.0})
        assert own["worker-0"] != own["worker-1"]
        expected = (3 * own["worker-0"] + own["worker-1"]) / 4
        assert both.prediction == pytest.approx(expected)


async def test_weights_that_cannot_work_are_refused_before_anybody_is_asked(tmp_path):
    faults = FaultPlan()
    async with running(tmp_path, 2, faults=faults) as w:
        await w.deploy("validator")
        await w.train()
        for weights, error, told in (
            ({"worker-9": 1.0}, NodeNotFound, "no node or slot 'worker-9'"),
            ({"validator-0": 1.0}, InvalidArguments, "a validator that does not serve"),
            ({"worker-0": 0.0}, InvalidArguments, "weights are all 0"),
        ):
            with pytest.raises(error, match=told):
                await answered(w, aggregation="weighted", weights=weights)
        with pytest.raises(InvalidArguments, match="no effect on aggregation 'mean'"):
            await answered(w, weights={"worker-0": 1.0})
        assert faults.met("worker-0", "predict") == 0
        by_id = {node_id(w, "worker-1"): 1.0}
        assert (await answered(w, aggregation="weighted", weights=by_id)).nodes_used == 2


async def test_a_threshold_is_refused_where_there_are_not_two_classes(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.train()
        assert w.committed.schema.task == "regression"
        with pytest.raises(InvalidArguments, match=r"threshold=0\.3 .* task is regression"):
            await answered(w, threshold=0.3)


async def test_more_than_the_queue_holds_are_refused_and_the_queue_empties(tmp_path):
    faults = FaultPlan().slow("worker-0", "predict", delay_s=0.5)
    async with running(tmp_path, 1, faults=faults, ports=PATIENT) as w:
        await w.train()
        refused = []

        async def ask():
            try:
                await answered(w)
            except Overloaded as refusal:
                refused.append(refusal)

        async with anyio.create_task_group() as group:
            for _ in range(QUEUE + 3):
                group.start_soon(ask)
        assert len(refused) == 3
        assert refused[0].retryable
        assert w.cluster.state.predictions_waiting == 0
        assert (await answered(w)).nodes_used == 1


async def test_every_answer_is_timed_and_no_refusal_is(tmp_path):
    faults = FaultPlan().slow("worker-0", "predict", delay_s=0.2)
    async with running(tmp_path, 1, faults=faults, ports=PATIENT) as w:
        await w.train()
        await answered(w)
        await answered(w)
        with pytest.raises(InvalidArguments):
            await answered(w, weights={"worker-0": 1.0})
        assert w.cluster.metrics.predict_ms.values() == pytest.approx([200.0, 0.0])


async def killed(w, name):
    node = w.node(name)
    node.kill()
    await node.wait_exit()
    await anyio.wait_all_tasks_blocked()
    w.slots[name].move("recovering")  # as one that a former server left


async def test_nodes_that_a_former_server_left_are_started_when_nobody_else_could_answer(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.train()
        before = await answered(w)
        await killed(w, "worker-0")
        after = await answered(w)
        assert after.prediction == before.prediction
        assert w.slots["worker-0"].incarnation == 2


async def test_they_are_not_waited_for_when_another_one_answers(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train()
        await killed(w, "worker-1")
        answer = await answered(w)
        assert (answer.nodes_used, reasons(w, answer)["worker-1"][:9]) == (1, "node_died")
        await anyio.wait_all_tasks_blocked()
        assert (await answered(w)).nodes_used == 2
