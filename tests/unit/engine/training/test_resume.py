"""A training whose server ended goes on, is stopped while it comes back, or ends with the reason."""

import anyio
import pytest

from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.training import resume
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.doubles.limits import HANG_S
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def rounds_done(w, n):
    while w.cluster.state.latest_training.advance.rounds_done < n:
        await w.cluster.changes.wait_beyond(w.cluster.changes.count)


async def interrupted(tmp_path, workers=2, *, after=2, **train):
    """The digest of a whole training, and a directory in which the same one was interrupted."""
    async with running(tmp_path / "whole", workers) as w:
        whole = await w.train(epochs=6, **train)
    async with running(tmp_path / "state", workers) as w:
        await w.engine.train(w.train_request(epochs=6, **train))
        await rounds_done(w, after)
        cluster_id = w.cluster_id
    return whole, cluster_id


async def resumptions(w):
    return [entry for entry in await w.ledger() if entry.get("event") == "training_resumed"]


async def test_it_goes_on_from_its_last_committed_round_to_the_same_weights(tmp_path):
    whole, cluster_id = await interrupted(tmp_path)
    async with running(tmp_path / "state", cluster_id=cluster_id) as w:
        await w.ended()
        training = w.cluster.state.latest_training
        assert (training.status, training.error) == (whole.status, None)
        assert training.advance.digest_after == whole.advance.digest_after
        assert training.advance.digest_before == whole.advance.digest_before
        assert (training.resumptions.times, training.resumptions.in_vain) == (1, 0)
        assert 2 <= training.resumptions.after_round < 6
        (entry,) = await resumptions(w)
        assert (entry["after_round"], entry["times"]) == (training.resumptions.after_round, 1)


async def test_it_goes_on_under_the_links_that_it_had(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.connect("ring")
        await w.engine.train(w.train_request(epochs=6))
        await rounds_done(w, 1)
        cluster_id = w.cluster_id
    async with running(tmp_path, cluster_id=cluster_id) as w:
        await w.ended()
        assert w.cluster.state.links.topology == "ring"
        rules = [entry["rule"] for entry in await w.ledger("version")]
        assert "exact_aggregation" not in rules  # the model is left as it was


async def test_one_that_is_stopped_while_it_comes_back_stays_stopped(tmp_path):
    _, cluster_id = await interrupted(tmp_path)
    async with running(tmp_path / "state", cluster_id=cluster_id) as w:
        coming = w.cluster.run
        assert isinstance(coming, resume.Resumption)
        coming.stop()
        await coming.ended.wait()
        training = w.cluster.state.latest_training
        assert (training.status, training.error, w.cluster.run) == ("stopped", None, None)
    async with running(tmp_path / "state", cluster_id=cluster_id) as w:
        assert (w.cluster.run, w.cluster.state.latest_training.status) == (None, "stopped")


async def test_while_its_nodes_come_back_status_says_so_and_the_restart_counts_already(tmp_path):
    _, cluster_id = await interrupted(tmp_path)
    for times in (1, 2):
        async with running(tmp_path / "state", cluster_id=cluster_id) as w:
            while len(await resumptions(w)) < times:
                await anyio.lowlevel.checkpoint()
            training = (await w.status()).training
            assert training.resumed.times == times
            assert "goes on when its nodes are started again" in training.lacks
    async with running(tmp_path / "state", cluster_id=cluster_id) as w:
        await w.ended()
        assert w.cluster.state.latest_training.resumptions.times == 3


async def test_one_whose_server_ends_again_while_it_comes_back_goes_on_later(tmp_path):
    whole, cluster_id = await interrupted(tmp_path)
    async with running(tmp_path / "state", cluster_id=cluster_id) as w:
        assert isinstance(w.cluster.run, resume.Resumption)
    async with running(tmp_path / "state", cluster_id=cluster_id) as w:
        await w.ended()
        training = w.cluster.state.latest_training
        assert training.advance.digest_after == whole.advance.digest_after


async def test_one_whose_rows_are_gone_fails_with_the_reason_and_its_version_stays(tmp_path):
    _, cluster_id = await interrupted(tmp_path)
    async with running(tmp_path / "state", cluster_id=cluster_id) as w:
        rows = w.cluster.state.latest_training.data.sha256
        w.engine.context.checkpoints.path(rows).unlink()
    async with running(tmp_path / "state", cluster_id=cluster_id) as w:
        await w.ended()
        training = w.cluster.state.latest_training
        assert training.status == "failed"
        assert training.error.startswith("interrupted: the server ended, and it cannot go on: ")
        assert rows in training.error
        assert (await w.predict()).model_version == w.committed.version


async def in_vain(tmp_path, times):
    """A training goes on so many times without getting anywhere; its cluster."""
    faults = FaultPlan().slow("worker-0", "train", delay_s=3600)
    async with running(tmp_path, 1, faults=faults) as w:
        await w.engine.train(w.train_request())
        cluster_id = w.cluster_id
    for _ in range(times):
        faults = FaultPlan().slow("worker-0", "train", delay_s=3600)
        async with running(tmp_path, cluster_id=cluster_id, faults=faults) as w:
            while isinstance(w.cluster.run, resume.Resumption):
                await w.cluster.changes.wait_beyond(w.cluster.changes.count)
    return cluster_id


async def test_one_that_takes_its_server_with_it_every_time_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "MAX_IN_VAIN", 2)
    # No server that is killed says that it stopped in order.
    monkeypatch.setattr(Training, "suspend", lambda _: False)
    cluster_id = await in_vain(tmp_path, 2)
    async with running(tmp_path, cluster_id=cluster_id) as w:
        await w.ended()
        training = w.cluster.state.latest_training
        assert training.status == "failed"
        assert "ended 2 times before anything further of it was made durable" in training.error


async def test_servers_that_stop_in_order_count_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "MAX_IN_VAIN", 2)
    cluster_id = await in_vain(tmp_path, 3)
    async with running(tmp_path, cluster_id=cluster_id) as w:
        await w.ended()
        training = w.cluster.state.latest_training
        assert (training.status, training.resumptions.times) == ("completed", 4)


async def test_a_change_that_waits_while_it_comes_back_is_made(tmp_path):
    _, cluster_id = await interrupted(tmp_path, 3)
    async with running(tmp_path / "state", cluster_id=cluster_id) as w:
        assert isinstance(w.cluster.run, resume.Resumption)
        with anyio.fail_after(HANG_S):
            report = await w.connect("ring")
        assert report.topology == "ring"
        await w.ended()
        assert w.cluster.state.latest_training.status == "completed"


async def test_a_disk_that_refuses_ends_it_for_this_server_only(tmp_path):
    whole, cluster_id = await interrupted(tmp_path)
    async with running(tmp_path / "state", cluster_id=cluster_id) as w:
        with w.disk.failing(JOURNAL, disk_is_full()):
            await w.cluster.run.ended.wait()
        assert w.cluster.state.latest_training.status == "failed"
    async with running(tmp_path / "state", cluster_id=cluster_id) as w:
        await w.ended()
        training = w.cluster.state.latest_training
        assert training.advance.digest_after == whole.advance.digest_after
