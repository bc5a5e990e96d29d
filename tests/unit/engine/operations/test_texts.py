"""What errors and reports tell a caller to do is true for the state that the cluster is in."""

from types import SimpleNamespace

import anyio
import pytest

from flow_nexus_neural.engine.calls.calls import living
from flow_nexus_neural.engine.operations.status import status_report
from flow_nexus_neural.engine.operations.terminate import terminate
from flow_nexus_neural.engine.prediction.predict import predict
from flow_nexus_neural.engine.requests import PredictRequest, StatusRequest, TerminateRequest
from flow_nexus_neural.engine.training.preparation import healthy_workers
from flow_nexus_neural.errors import NodeUnavailable, NotTrained, NoWorkers
from tests.unit.engine.building import cluster_state, live, slot, training


def cluster_of(*slots):
    cluster = live(cluster_state())
    for one in slots:
        cluster.slots.add(one)
    cluster.wiring = SimpleNamespace(working=list, degree=lambda name: 0)
    cluster.context.settings = SimpleNamespace(node_memory_mb=64, max_nodes=8)
    cluster.context.tracker_faults = {}

    async def read_nothing(_reader, living):
        return dict.fromkeys(living)

    cluster.context.offload_reading = read_nothing
    return cluster


async def warnings_of(cluster):
    request = StatusRequest(cluster_id="dnc_1")
    report = await status_report(cluster, request, changed=False, timed_out=False)
    return " ".join(report.warnings)


async def test_status_tells_to_replace_only_what_nobody_replaces():
    failed = slot("worker-0", state="failed")
    cluster = cluster_of(failed)
    assert "replace with neural_node_deploy" in await warnings_of(cluster)
    async with failed.restarting:
        assert "replace" not in await warnings_of(cluster)
    failed.await_return(expected=True)
    assert "replace" not in await warnings_of(cluster)
    failed.await_return(expected=False)
    assert "replace with neural_node_deploy" in await warnings_of(cluster)
    cluster.state.end("2026-01-01T00:00:00Z")
    assert await warnings_of(cluster) == ""


def test_a_training_without_workers_says_what_becomes_of_them():
    for given, words in (
        ((), "deploy one with neural_node_deploy"),
        ((slot("worker-0", state="failed"),), "replace worker-0"),
        ((slot("worker-0", state="failed", returning=True),), "wait for worker-0"),
        ((slot("validator-0", state="failed"),), "deploy one with neural_node_deploy"),
    ):
        with pytest.raises(NoWorkers) as refused:
            healthy_workers(cluster_of(*given))
        assert words in refused.value.hint


def test_a_node_without_a_process_is_to_be_replaced_only_if_it_does_not_come_back():
    for one, words in (
        (slot("worker-0", state="failed"), "replace worker-0"),
        (slot("worker-0", state="failed", returning=True), "wait for worker-0"),
        (slot("worker-0", state="retired"), "see its state"),
    ):
        with pytest.raises(NodeUnavailable) as refused:
            living(one)
        assert words in refused.value.hint


async def test_a_prediction_before_the_first_version_tells_to_train_only_if_nothing_trains():
    cluster = cluster_of()
    request = PredictRequest(cluster_id="dnc_1", input_data=[1.0])
    with pytest.raises(NotTrained) as refused:
        await predict(cluster, request)
    assert "neural_train_distributed" in refused.value.hint
    with cluster.state.preparing_training(), pytest.raises(NotTrained) as refused:
        await predict(cluster, request)
    assert "neural_train_distributed" not in refused.value.hint
    assert "wait with neural_cluster_status" in refused.value.hint


@pytest.mark.parametrize(
    ("status", "words"), [("stopped", "of cluster x stopped"), ("completed", "ended: completed")]
)
async def test_stopping_a_training_that_ends_by_itself_meanwhile_says_how_it_ended(status, words):
    cluster = cluster_of()
    one = training()
    cluster.state.trainings.append(one)
    ended = anyio.Event()

    def stop():
        one.end(status, None, "then")
        ended.set()

    cluster.begin_run(SimpleNamespace(training=one, stop=stop, ended=ended))
    request = TerminateRequest(cluster_id="dnc_1", training_id=one.training_id)
    assert words in (await terminate(cluster, request)).message
