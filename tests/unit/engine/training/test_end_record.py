"""The end of a training is durable, and the files that only its going on needed are given up with it."""

import pytest

from flow_nexus_neural.engine.training.end_record import record_end
from tests.doubles.fail_points import JOURNAL, disk_is_full
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


def files_in(tmp_path):
    return {path.stem for path in (tmp_path / "blobs").rglob("*.safetensors")}


async def test_what_only_a_running_training_needs_is_deleted_at_its_end(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train(epochs=2)
        later = await w.train(
            epochs=9
        )  # goes on from the first one's weights, and leaves them far behind
        start = later.starts["c0"].blob
        assert start not in files_in(tmp_path)
        assert files_in(tmp_path) == w.committed.blobs | later.files
        named = {blob.sha for blob in (await w.engine.context.store.load()).blobs}
        assert named == files_in(tmp_path)


async def test_the_start_of_a_running_training_stays(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train(epochs=2)
        await w.engine.train(w.train_request(epochs=9))
        training = w.cluster.state.latest_training
        while training.advance.rounds_done < 8:
            await w.cluster.changes.wait_beyond(w.cluster.changes.count)
        start = training.starts["c0"].blob
        assert start not in w.committed.blobs
        assert start in files_in(tmp_path)


async def test_an_end_that_cannot_be_recorded_is_noted_and_keeps_the_files(tmp_path):
    async with running(tmp_path, 1) as w:
        training = await w.train(epochs=2)
        before = files_in(tmp_path)
        with w.disk.failing(JOURNAL, disk_is_full()):
            await record_end(w.cluster, training)
        assert training.error.startswith("its end is not recorded: ")
        assert files_in(tmp_path) == before
