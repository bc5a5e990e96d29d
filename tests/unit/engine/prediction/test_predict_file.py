"""The life of the work on one file: begun, waited for, attached to, ended."""

import anyio
import pytest

from flow_nexus_neural.engine.prediction import predict_file as module
from flow_nexus_neural.engine.prediction.predict_file import (
    ANSWER_WITHIN_S,
    KEPT_S,
    FileJob,
    predict_file,
)
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.errors import InvalidArguments, NotTrained, Overloaded, ShuttingDown
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


@pytest.fixture
def held(monkeypatch):
    """Holds the reading of every input until it is set."""
    go, ask = anyio.Event(), FileJob._ask

    async def wait_and_ask(job, rows):
        await go.wait()
        return await ask(job, rows)

    monkeypatch.setattr(FileJob, "_ask", wait_and_ask)
    return go


def asked(w, **more):
    given = {"input_data": [[1, 2, 3]] * 5, "output_path": "out.csv"} | more
    return PredictRequest(cluster_id=w.cluster_id, **given)


def out(w):
    return w.engine.context.settings.data_root / "out.csv"


async def test_a_call_waits_no_longer_than_hosts_do_and_the_work_goes_on(tmp_path, held):
    async with running(tmp_path, 1) as w:
        await w.train()
        began = anyio.current_time()
        report = await predict_file(w.cluster, asked(w), None)
        assert anyio.current_time() - began == pytest.approx(ANSWER_WITHIN_S)
        assert (report.output.status, report.output.rows_done) == ("running", 0)
        assert report.output.seconds == pytest.approx(ANSWER_WITHIN_S)
        with pytest.raises(Overloaded, match="is predicting a file"):
            await predict_file(w.cluster, asked(w, output_path="b.csv"), None)
        held.set()
        await anyio.wait_all_tasks_blocked()
        assert out(w).exists()
        done = await predict_file(w.cluster, asked(w), None)
        assert (done.output.status, done.output.rows_done) == ("written", 5)
        assert w.cluster.file is None


async def test_what_became_of_work_that_nobody_asks_for_is_forgotten_with_the_next(tmp_path, held):
    async with running(tmp_path, 1) as w:
        await w.train()
        await predict_file(w.cluster, asked(w), None)
        held.set()
        await anyio.wait_all_tasks_blocked()
        other = await predict_file(w.cluster, asked(w, output_path="b.csv"), None)
        assert other.output.status == "written"
        assert out(w).exists()


async def test_long_after_its_end_the_same_call_has_the_work_done_anew(tmp_path, held):
    async with running(tmp_path, 1) as w:
        await w.train()
        first = await predict_file(w.cluster, asked(w, overwrite=True), None)
        held.set()
        await anyio.wait_all_tasks_blocked()
        await w.train()
        await anyio.sleep(KEPT_S + 1)
        again = await predict_file(w.cluster, asked(w, overwrite=True), None)
        assert again.prediction_id != first.prediction_id
        assert again.model_version > first.model_version


async def test_a_file_that_is_answered_in_the_reply_waits_for_no_other(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.train()
        (out(w).parent / "in.csv").write_text("f0,f1,f2\n1,2,3\n")
        w.cluster.begin_file(FileJob(w.cluster, asked(w), w.committed))  # goes on for ever
        short = asked(w, input_data=None, input_path="in.csv", output_path=None)
        assert len((await predict_file(w.cluster, short, None)).predictions) == 1


async def test_work_that_two_calls_wait_for_ends_with_the_second_cancellation(tmp_path, held):
    async with running(tmp_path, 1) as w:
        await w.train()
        async with anyio.create_task_group() as second:
            async with anyio.create_task_group() as first:
                first.start_soon(predict_file, w.cluster, asked(w), None)
                second.start_soon(predict_file, w.cluster, asked(w), None)
                await anyio.wait_all_tasks_blocked()
                first.cancel_scope.cancel()
            assert not w.cluster.file.finished.is_set()
            second.cancel_scope.cancel()
        assert w.cluster.file is None
        assert list(out(w).parent.iterdir()) == []


async def test_work_that_was_stopped_says_that_nothing_was_written(tmp_path, held):
    async with running(tmp_path, 1) as w:
        await w.train()
        await predict_file(w.cluster, asked(w), None)
        await w.cluster.file.stop()
        with pytest.raises(ShuttingDown, match="nothing was written"):
            await predict_file(w.cluster, asked(w), None)
        assert w.cluster.file is None


async def test_a_failure_is_told_once_to_the_call_that_asks(tmp_path, monkeypatch):
    async with running(tmp_path, 1) as w:
        await w.train()
        monkeypatch.setattr(module, "row_writer", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await predict_file(w.cluster, asked(w), None)
        monkeypatch.undo()
        assert (await predict_file(w.cluster, asked(w), None)).output.status == "written"


async def test_contradictions_and_an_untrained_cluster_begin_nothing(tmp_path):
    async with running(tmp_path, 1) as w:
        with pytest.raises(NotTrained):
            await predict_file(w.cluster, asked(w), None)
        await w.train()
        for more in (
            {"input_path": "a.csv"},
            {"detail": "full"},
            {"output_path": None, "overwrite": True},
        ):
            with pytest.raises(InvalidArguments):
                await predict_file(w.cluster, asked(w, **more), None)
        assert w.cluster.file is None
