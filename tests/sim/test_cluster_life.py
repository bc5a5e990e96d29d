"""What a cluster promises over its life: trainings, links, newcomers, ends, restarts."""

import anyio
import pytest

from flow_nexus_neural.engine.requests import StatusRequest
from flow_nexus_neural.errors import (
    ClusterNotFound,
    ClusterTerminated,
    LimitExceeded,
    NoServingNode,
    NotTrained,
    NoWorkers,
    StoreUnavailable,
    TrainingNotFound,
    TrainingRunning,
)
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.doubles.limits import HANG_S
from tests.doubles.seeded import run_seeded
from tests.sim.scheduled import scheduled_world
from tests.sim.simulated import LAYERS, blobs, world

LONG = 200
WIDE = ({"type": "dense", "units": 9, "activation": "tanh"}, {"type": "dense", "units": 1})


async def test_progress_is_the_share_of_committed_rounds_and_never_falls(tmp_path):
    heard = []

    async def tell(done, total, message):
        heard.append((done, total, message))

    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.start(cluster, epochs=8)
        seen = [await w.status(cluster)]
        with anyio.fail_after(HANG_S):
            while seen[-1].training_status == "running":
                seen.append(await w.status(cluster, wait_seconds=5))
        for status in seen:
            if status.training_status == "running":
                assert status.training_progress == pytest.approx(
                    min(99.99, 100 * status.training.current_round / 8)
                )
        progress = [status.training_progress for status in seen]
        assert progress == sorted(progress)
        assert progress[-1] == 100
        assert 100 not in progress[:-1]
        assert len(seen[-1].history) == 8
        assert [point.round for point in seen[-1].history] == list(range(1, 9))
        report = (await w.engine.history(cluster)).rounds
        assert report == seen[-1].history


async def test_a_second_training_is_refused_while_one_runs_or_is_prepared(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        refused = []

        async def try_to_start():
            try:
                await w.start(cluster, epochs=LONG)
            except TrainingRunning as refusal:
                refused.append(refusal)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(try_to_start)
        assert len(refused) == 2
        with pytest.raises(TrainingRunning, match="is at"):
            await w.start(cluster)
        sessions = (await w.status(cluster)).training_sessions
        assert len(sessions) == 1


async def test_a_refused_training_leaves_the_cluster_as_it_was(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        before = await w.status(cluster)
        for bad in ({"X": [[1.0]] * 3, "y": [0, 1, 0]}, "no-such-data", {"X": [[1.0]] * 50}):
            with pytest.raises(Exception, match=r"."):
                await w.start(cluster, bad)
        after = await w.status(cluster)
        assert after.status == before.status == "initialized"
        assert after.training_sessions == []
        with pytest.raises(NotTrained):
            await w.predict(cluster)
        assert (await w.train(cluster)).training_status == "completed"


async def test_connecting_during_a_training_waits_for_the_boundary_between_rounds(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, topology="mesh")
        await w.start(cluster, epochs=30)
        await w.rounds(cluster, 2)
        report = await w.connect(cluster, "ring")
        assert (report.status, report.applied, report.pending) == ("connected", "next_round", False)
        assert report.aggregation.performed
        status = await w.done(cluster)
        assert status.training_status == "completed", status.training_error
        entries = await w.versions(cluster)
        assert [e["rule"] for e in entries].count("exact_aggregation") == 1
        assert len(entries) == 31 == status.model_version
        assert [e["model_version"] for e in entries] == list(range(1, 32))
        assert status.topology == "ring"


async def test_a_connect_without_patience_is_queued_and_done_later(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, topology="mesh")
        await w.start(cluster, epochs=20)
        report = await w.connect(cluster, "ring", wait_seconds=0)
        assert (report.status, report.pending) == ("pending", True)
        status = await w.done(cluster)
        assert status.topology == "ring"


async def test_star_aggregates_each_time_and_the_others_once(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, topology="mesh")
        first = await w.connect(cluster)
        assert (first.aggregation.performed, first.aggregation.reason) == (False, "not_trained")
        status = await w.train(cluster)
        digest = status.training.evidence.weights_digest_after
        again = await w.connect(cluster)
        assert (again.changed, again.aggregation.performed) == (False, False)
        for version in (4, 5):
            star = await w.connect(cluster, "star")
            assert star.changed
            aggregation = star.aggregation
            assert (aggregation.performed, aggregation.version) == (True, version)
            assert (aggregation.contributors, aggregation.weights_digest) == (3, digest)
            assert aggregation.accuracy_after == aggregation.accuracy_before
            assert aggregation.bytes > 3 * 4 * 31  # three workers sent 31 parameters each
        assert (await w.status(cluster)).model_version == 5
        assert (await w.predict(cluster)).model_version == 5


async def test_concurrent_changes_rest_on_one_another_and_not_on_one_version(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        await w.train(cluster)
        async with anyio.create_task_group() as group:
            for topology in ("star", "mesh", "star", "ring"):
                group.start_soon(w.connect, cluster, topology)
            group.start_soon(w.start, cluster)
        status = await w.done(cluster)
        assert status.training_status == "completed", status.training_error
        await w.connect(cluster, "star")
        numbers = [e["version"] for e in await w.versions(cluster)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= 10


async def test_training_again_goes_on_from_the_committed_weights(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        first = (await w.train(cluster)).training.evidence
        second = (await w.train(cluster)).training.evidence
        assert second.weights_digest_before == first.weights_digest_after
        assert second.weights_digest_after != first.weights_digest_after
        other = await w.train(cluster, optimizer="sgd")
        assert other.training.evidence.weights_digest_before == second.weights_digest_after
        report = await w.start(cluster, blobs(features=5))
        assert any("new lineage" in warning for warning in report.warnings)
        assert report.networks[0].parameters == 6 * 6 + 7
        status = await w.done(cluster)
        assert status.training_status == "completed", status.training_error
        assert status.training.evidence.weights_digest_before != other.training.evidence
        assert len({e["cohort"] for e in await w.versions(cluster)}) == 2
        assert (await w.predict(cluster, [1.0] * 5)).nodes_used == 2


async def test_stopping_a_training_keeps_the_cluster_and_its_last_version(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        report = await w.start(cluster, epochs=LONG)
        await w.rounds(cluster, 2)
        stopped = await w.terminate(cluster, training_id=report.training_id)
        assert stopped.status == "training_stopped"
        assert not stopped.already_terminated
        status = await w.status(cluster)
        assert status.training_status == "stopped"
        assert status.training_error is None
        assert 0 < status.training_progress < 100
        assert (
            status.model_version == status.training.current_round == len(await w.versions(cluster))
        )
        assert status.active_nodes == 2
        assert (await w.predict(cluster)).nodes_used == 2
        again = await w.terminate(cluster, training_id=report.training_id)
        assert again.already_terminated
        with pytest.raises(TrainingNotFound):
            await w.terminate(cluster, training_id="trn_0")
        assert (await w.train(cluster)).training_status == "completed"


class Installing:
    """Hears when a version of which worker-0 is slow to take the weights is being installed."""

    def __init__(self, version):
        self.faults = FaultPlan().slow("worker-0", "load", nth=version, delay_s=5.0)
        self.version, self.begun = version, anyio.Event()

    def hear(self, slot, direction, kind):
        heard = (slot, direction, kind) == ("worker-0", "to_node", "load")
        if heard and self.faults.met(slot, kind) == self.version - 1:  # told before it is counted
            self.begun.set()

    def open(self, state_dir):
        return scheduled_world(state_dir, self.faults, on_event=self.hear)


def test_a_stop_in_the_middle_of_a_commit_loses_nothing_that_is_durable(tmp_path):
    async def stop():
        third = Installing(3)
        async with third.open(tmp_path) as w:
            cluster = await w.cluster(2)
            report = await w.start(cluster, epochs=LONG)
            await third.begun.wait()
            assert (await w.status(cluster)).model_version == 2
            assert len(await w.versions(cluster)) == 3
            await w.terminate(cluster, training_id=report.training_id)
            status = await w.status(cluster)
            assert status.training.current_round == status.model_version == 3
            assert len(await w.versions(cluster)) == 3
            assert (await w.train(cluster)).training_status == "completed"
        async with scheduled_world(tmp_path) as w:  # one with a version twice would not be opened
            assert (await w.status(cluster)).model_version == 6

    run_seeded(stop)


async def test_terminating_is_idempotent_and_ends_everything(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        await w.start(cluster, epochs=LONG)
        await w.rounds(cluster, 1)
        reports = []

        async def end():
            reports.append(await w.terminate(cluster))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(end)
        assert sorted(r.nodes_terminated for r in reports) == [0, 0, 3]
        assert [r.already_terminated for r in reports].count(False) == 1
        assert len({r.terminated_at for r in reports}) == 1
        assert all(node.gone for node in w.runtime.nodes)
        status = await w.status(cluster)
        assert (status.status, status.total_nodes) == ("terminated", 0)
        assert status.training_status == "stopped"
        for call in (w.predict, w.connect, w.deploy, w.start):
            with pytest.raises(ClusterTerminated):
                await call(cluster)
    async with world(tmp_path) as w:
        assert (await w.status(cluster)).status == "terminated"
        assert (await w.terminate(cluster)).terminated_at == reports[0].terminated_at


async def test_the_name_of_an_ended_cluster_leads_to_its_id(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        name = (await w.status(cluster)).name
        await w.terminate(cluster)
        with pytest.raises(ClusterNotFound) as refusal:
            await w.status(name)
        assert f"ended with this name: {cluster}" in str(refusal.value)


async def test_cancelling_a_terminate_keeps_no_node_alive(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        async with anyio.create_task_group() as group:
            group.start_soon(w.terminate, cluster)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert all(node.gone for node in w.runtime.nodes)
        assert (await w.terminate(cluster)).already_terminated


async def test_an_end_that_could_not_be_made_durable_is_made_so_by_the_next_call(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        with w.disk.failing(JOURNAL, disk_is_full()):
            with pytest.raises(StoreUnavailable):
                await w.terminate(cluster)
            assert all(node.gone for node in w.runtime.nodes)
        report = await w.terminate(cluster)
        assert not report.already_terminated
        assert (await w.terminate(cluster)).already_terminated
    async with world(tmp_path) as w:
        assert (await w.status(cluster)).status == "terminated"


async def test_artifacts_go_only_when_asked(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.train(cluster)
        files = set((tmp_path / "blobs").rglob("*.safetensors"))
        report = await w.terminate(cluster)
        assert report.checkpoints_kept > 0
        assert set((tmp_path / "blobs").rglob("*.safetensors")) == files
        report = await w.terminate(cluster, delete_artifacts=True)
        assert report.already_terminated
        assert report.checkpoints_kept == 0
        assert set((tmp_path / "blobs").rglob("*.safetensors")) == set()


async def test_checkpoints_that_nobody_names_are_deleted(tmp_path):
    async with world(tmp_path, checkpoint_keep=2) as w:
        cluster = await w.cluster(2)
        await w.train(cluster, epochs=12)
        files = {path.stem for path in (tmp_path / "blobs").rglob("*.safetensors")}
        stored = await w.stored()
        assert files == {blob.sha for blob in stored.blobs}
        assert 3 <= len(files) <= 4  # two versions, the best one, the moments


def history_of(status):
    return [(point.val_loss, point.accuracy) for point in status.history]


async def test_without_select_rows_the_validation_loss_and_the_best_round_are_unknown(tmp_path):
    lines = []

    async def progress(done, total, message):
        lines.append(message)

    async with world(tmp_path, checkpoint_keep=1) as w:
        cluster = await w.cluster(2)
        await w.start(cluster, blobs(rows=199), epochs=4)
        request = StatusRequest(cluster_id=cluster, wait_seconds=25, until="done")
        await w.engine.status(request, progress)
        status = await w.done(cluster)
        assert status.training_status == "completed", status.training_error
        assert (status.training.val_loss, status.training.best_round) == (None, None)
        assert history_of(status) == [(None, None)] * 4
        assert status.global_loss is not None
        assert lines
        assert not any("loss" in line for line in lines)
        committed = w.engine.cluster(cluster).committed
        assert committed.best == {key: own.blob for key, own in committed.networks.items()}


async def test_with_select_rows_the_best_round_has_the_lowest_validation_loss(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        status = await w.train(cluster, blobs(rows=240), epochs=4)
        losses = [point.val_loss for point in status.history]
        assert len(losses) == 4
        assert None not in losses
        assert status.training.best_round == 1 + losses.index(min(losses))


@pytest.mark.parametrize("layers", [LAYERS, None], ids=["same layers", "as peer"])
async def test_a_worker_deployed_during_a_training_joins_the_next_round(tmp_path, layers):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.start(cluster, epochs=40, clients_per_round=2)
        await w.rounds(cluster, 2)
        report = await w.deploy(cluster, layers=layers)
        assert report.joins == "next_round"
        assert report.parameters == 31
        assert report.layers_source == ("given" if layers else "peer")
        status = await w.done(cluster)
        assert status.training_status == "completed", status.training_error
        entries = await w.versions(cluster)
        assert any(m["slot"] == "worker-2" for e in entries for m in e["contributors"])
        answer = await w.predict(cluster)
        assert (answer.nodes_used, answer.nodes_expected) == (3, 3)


def test_a_worker_that_comes_while_the_last_version_is_installed_serves_it(tmp_path):
    async def come():
        last = Installing(3)
        async with last.open(tmp_path) as w:
            cluster = await w.cluster(2)
            await w.start(cluster)
            await last.begun.wait()
            await w.deploy(cluster)
            assert (await w.status(cluster)).training_status == "running"
            assert (await w.done(cluster)).training_status == "completed"
            answer = await w.predict(cluster)
            assert (answer.nodes_used, answer.nodes_expected, answer.model_version) == (3, 3, 3)
        async with scheduled_world(tmp_path) as w:
            answer = await w.predict(cluster)
            assert (answer.nodes_used, answer.nodes_expected) == (3, 3)

    run_seeded(come)


async def test_a_worker_replaced_after_a_training_without_it_serves_again(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        w.kill("worker-1")
        await w.until(cluster, lambda s: s.failed_nodes == 1)
        await w.train(cluster)
        report = await w.deploy(cluster, layers=None)
        assert (report.slot, report.layers_source) == ("worker-1", "inherited")
        assert report.synced_version == 3
        assert report.sync_ms > 0
        answer = await w.predict(cluster)
        assert (answer.nodes_used, answer.nodes_expected) == (3, 3)
        assert len(set(answer.node_predictions.values())) == 1


async def test_different_networks_train_apart_and_answer_together(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.deploy(cluster, layers=WIDE)
        status = await w.train(cluster, clients_per_round=3)
        assert status.training_status == "completed", status.training_error
        networks = {e["cohort"] for e in await w.versions(cluster)}
        assert len(networks) == 2 == len(status.serving.files)
        answer = await w.predict(cluster)
        assert (answer.nodes_used, answer.effective_ensemble_size) == (3, 2)
        mean = sum(answer.node_predictions.values()) / 3
        assert answer.raw_prediction == pytest.approx(mean)


async def test_a_training_goes_on_when_a_server_opens_the_directory_again(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.start(cluster, epochs=LONG)
        await w.rounds(cluster, 3)
    async with world(tmp_path) as w:
        status = await w.until(cluster, lambda s: s.training.resumed)
        done = status.training.resumed.after_round
        assert status.training_status == "running"
        assert done >= 3
        status = await w.rounds(cluster, done + 2)
        answer = await w.predict(cluster)
        assert answer.model_version >= status.model_version
        await w.terminate(cluster, training_id=status.training.training_id)
    async with world(tmp_path) as w:  # what was stopped on request stays stopped
        again = await w.status(cluster)
        assert (again.training_status, again.training.resumed.times) == ("stopped", 1)
        assert (again.status, again.recovering_nodes) == ("recovering", 2)
        assert again.training.current_round == again.model_version


async def test_a_server_that_only_reads_lets_no_training_go_on_and_says_so(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.start(cluster, epochs=LONG)
        await w.rounds(cluster, 1)
    async with world(tmp_path, read_only=True) as w:
        status = await w.status(cluster)
        assert status.training_status == "stopped"
        assert status.training_error.startswith("interrupted: the server ended after round ")
        assert "goes on by itself" in status.training_error
        await w.predict(cluster)
    async with world(tmp_path) as w:
        await w.until(cluster, lambda s: s.training.resumed)


async def test_a_server_that_is_cancelled_does_not_call_its_training_completed(tmp_path):
    cluster = None
    async with anyio.create_task_group() as group, world(tmp_path) as w:
        cluster = await w.cluster(2)
        await w.start(cluster, epochs=LONG)
        await w.rounds(cluster, 2)
        group.cancel_scope.cancel()
        await anyio.sleep_forever()
    async with world(tmp_path, read_only=True) as w:
        status = await w.status(cluster)
        assert status.training_status == "stopped"
        assert status.training_progress < 100


async def test_a_restarted_server_serves_the_same_answer(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        status = await w.train(cluster)
        before = await w.predict(cluster)
    async with world(tmp_path) as w:
        again = await w.status(cluster)
        kept = {"name", "model_version", "global_accuracy", "history", "evaluation", "serving"}
        assert again.model_dump(include=kept - {"serving"}) == status.model_dump(
            include=kept - {"serving"}
        )
        assert again.communication_bytes > 0
        after = await w.predict(cluster)
        assert after.prediction == before.prediction
        assert after.bundle_sha == before.bundle_sha
        assert [n.incarnation for n in (await w.status(cluster)).nodes] == [2, 2, 2]
        second = await w.train(cluster)
        assert (
            second.training.evidence.weights_digest_before
            == status.training.evidence.weights_digest_after
        )
        numbers = [e["version"] for e in await w.versions(cluster)]
        assert numbers == list(range(1, len(numbers) + 1))


async def test_every_prediction_during_a_training_rests_on_one_committed_version(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3)
        await w.train(cluster, epochs=1)
        await w.start(cluster, epochs=10)
        seen = []
        while (await w.status(cluster)).training_status == "running":
            answer = await w.predict(cluster)
            assert answer.effective_ensemble_size == 1
            assert len(set(answer.node_predictions.values())) == 1
            seen.append(answer.model_version)
        assert seen == sorted(seen)
        assert len(set(seen)) > 5


async def test_a_late_worker_is_left_out_of_an_answer_at_its_deadline(tmp_path):
    async with world(tmp_path, FaultPlan().slow("worker-1", "predict", delay_s=20)) as w:
        cluster = await w.cluster(3)
        await w.train(cluster)
        with anyio.fail_after(HANG_S):
            answer = await w.predict(cluster, deadline_ms=2000)
        assert (answer.nodes_used, answer.nodes_expected) == (2, 3)
        assert answer.degraded
        assert "2 of 3" in answer.degraded_reason
        (excluded,) = answer.excluded_nodes
        assert excluded.reason == "no answer before the deadline"
        assert answer.latency_ms >= 2000


async def test_nobody_in_time_is_an_error_at_the_deadline(tmp_path):
    faults = FaultPlan()
    for slot in ("worker-0", "worker-1"):
        faults.slow(slot, "predict", delay_s=20)
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(2)
        await w.train(cluster)
        with (
            anyio.fail_after(HANG_S),
            pytest.raises(NoServingNode, match="of 2 serving nodes answered"),
        ):
            await w.predict(cluster, deadline_ms=200)


async def test_training_needs_a_healthy_worker(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(0)
        with pytest.raises(NoWorkers):
            await w.connect(cluster)
        await w.deploy(cluster, "validator")
        with pytest.raises(NoWorkers, match="healthy nodes: 1 of 1 validators"):
            await w.start(cluster)


async def test_concurrent_creations_respect_the_limit_of_clusters(tmp_path):
    async with world(tmp_path, max_clusters=2) as w:
        made, refused = [], []

        async def create():
            try:
                made.append(await w.cluster(0))
            except LimitExceeded as refusal:
                refused.append(refusal)

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(create)
        assert (len(made), len(refused)) == (2, 2)
        await w.terminate(made[0])
        await w.cluster(0)


class Holder(NodeService):
    """Says which regions it holds."""

    def __init__(self, spec):
        super().__init__(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)
        self.held = set()

    def attach(self, key, arrays, *, writable):
        self.held.add(key)
        super().attach(key, arrays, writable=writable)

    def detach(self, keys):
        self.held.difference_update(keys)
        super().detach(keys)


async def test_no_row_outlives_its_training_in_a_node(tmp_path):
    services = {}

    def service(spec):
        services[spec.slot] = Holder(spec)
        return services[spec.slot]

    async with world(tmp_path, service=service) as w:
        cluster = await w.cluster(2)
        await w.deploy(cluster, "validator")
        report = await w.start(cluster, epochs=LONG)
        await w.rounds(cluster, 1)
        during = {slot: set(holder.held) for slot, holder in services.items()}
        assert "shard:worker-0" in during["worker-0"]
        assert "part:test" in during["validator-0"]
        assert not any("worker-1" in key for key in during["worker-0"] if "link" not in key)
        await w.terminate(cluster, training_id=report.training_id)
        held = {key for holder in services.values() for key in holder.held}
        assert {key for key in held if not key.startswith("link:")} == set()
        assert (await w.train(cluster)).training_status == "completed"


async def test_an_ended_cluster_keeps_its_files_and_no_weights_in_memory(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        status = await w.train(cluster)
        await w.terminate(cluster)
        kept = (await w.whole(cluster)).committed
        assert [c.state for c in kept.networks.values()] == [None]
        (file,) = status.serving.files.values()
    async with world(tmp_path) as w:
        kept = (await w.whole(cluster)).committed
        assert [c.state for c in kept.networks.values()] == [None]
        assert (await w.status(cluster)).global_accuracy == status.global_accuracy
        assert (tmp_path / file).exists()
        assert (await w.terminate(cluster, delete_artifacts=True)).checkpoints_kept == 0
        assert not (tmp_path / file).exists()
