"""A server's own tools while another one has its state directory: what is stored, and nothing guessed."""

from itertools import count
from threading import Event

import anyio
import anyio.from_thread
import pytest

from flow_nexus_neural.cli import stored, stored_source
from flow_nexus_neural.cli.stored_answers import POLL_S, CopiedAnswers
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.requests import (
    DeployRequest,
    InitRequest,
    ListRequest,
    StatusRequest,
    TerminateRequest,
)
from flow_nexus_neural.errors import ClusterNotFound
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from flow_nexus_neural.server.stored_answers import NULL_WHERE_STORED
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.sim.simulated import honest

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_what_is_stored_is_told_and_what_only_the_server_knows_is_null(tmp_path):
    settings = Settings(state_dir=tmp_path)
    answers = CopiedAnswers(settings)
    async with (
        InprocRuntime(honest) as runtime,
        Engine.open(settings, runtime=runtime) as engine,
    ):
        one = await engine.init_cluster(InitRequest(name="one"))
        await engine.deploy_node(DeployRequest(cluster_id=one.cluster_id, count=2))
        for detail in ("summary", "nodes", "full"):
            told = await answers.status(StatusRequest(cluster_id=one.cluster_id, detail=detail))
            assert {told[name] for name in NULL_WHERE_STORED} == {None}
            assert (told["name"], told["status"], told["total_nodes"]) == ("one", "running", 2)
            assert "serves this cluster" in told["warnings"][-1]
            assert (told["changed"], told["timed_out"]) == (False, False)
        listed = await answers.clusters(ListRequest())
        (line,) = listed["clusters"]
        assert (line["name"], line["status"], line["active_nodes"]) == ("one", "running", None)
        assert "has these clusters" in listed["warnings"][-1]
        with pytest.raises(ClusterNotFound):
            await answers.status(StatusRequest(cluster_id="dnc_nothing"))


async def test_a_wait_ends_with_what_is_stored_next_or_with_its_time(tmp_path):
    settings = Settings(state_dir=tmp_path)
    answers, found = CopiedAnswers(settings), []
    async with (
        InprocRuntime(honest) as runtime,
        Engine.open(settings, runtime=runtime) as engine,
    ):
        one = await engine.init_cluster(InitRequest(name="one"))
        asked = StatusRequest(cluster_id=one.cluster_id, wait_seconds=1)
        told = await answers.status(asked)
        assert (told["changed"], told["timed_out"]) == (False, True)

        looked = anyio.Event()

        async def look(read):
            told = await looks(read)
            looked.set()
            return told

        looks, answers._look = answers._look, look

        async def wait():
            found.append(await answers.status(asked.model_copy(update={"wait_seconds": HANG_S})))

        with anyio.fail_after(HANG_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await looked.wait()
                await engine.deploy_node(DeployRequest(cluster_id=one.cluster_id))
        assert (found[0]["changed"], found[0]["timed_out"]) == (True, False)
        done = asked.model_copy(update={"until": "done", "wait_seconds": HANG_S})
        assert (await answers.status(done))["training_status"] == "none"
        await engine.terminate(TerminateRequest(cluster_id=one.cluster_id))


async def test_a_server_that_commits_all_the_time_is_not_copied_all_the_time(tmp_path, monkeypatch):
    answers, looks, commits = CopiedAnswers(Settings(state_dir=tmp_path)), [], count()

    async def look(read):
        looks.append(read)
        return {"training_status": "running"}

    monkeypatch.setattr(answers, "_look", look)
    monkeypatch.setattr(stored_source, "fingerprint", lambda state_dir: next(commits))
    wait = StatusRequest(cluster_id="dnc_any", wait_seconds=1, until="done")
    told = await answers.status(wait)
    assert (told["changed"], told["timed_out"]) == (True, True)
    assert len(looks) <= 2 + 1 / POLL_S


async def test_calls_are_answered_while_a_copy_is_made(tmp_path, monkeypatch):
    begun, answered, copies = anyio.Event(), Event(), stored.copy_state_dir

    def slowly(source, target):
        anyio.from_thread.run_sync(begun.set)
        assert answered.wait(HANG_S)
        return copies(source, target)

    async def answer():
        await begun.wait()
        answered.set()

    monkeypatch.setattr(stored, "copy_state_dir", slowly)
    answers = CopiedAnswers(Settings(state_dir=tmp_path))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        assert (await answers.clusters(ListRequest()))["clusters"] == []
