"""Which slots come back, and what is refused before a cluster is read."""

import pytest

from flow_nexus_neural.engine.operations.clusters import with_parts
from flow_nexus_neural.engine.operations.restore_ended import (
    ended_cluster,
    refuse_more_clusters,
    refuse_restore,
    reopened,
    start_again,
)
from flow_nexus_neural.engine.requests import InitRequest, TerminateRequest
from flow_nexus_neural.errors import ClusterExists, ClusterTerminated, LimitExceeded
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def end(w, **more):
    await w.engine.terminate(TerminateRequest(cluster_id=w.cluster_id, **more))
    book = w.engine._clusters
    request = InitRequest(restore=w.cluster_id)
    return book, request, ended_cluster(book, request, w.cluster_id)


async def test_what_is_read_back_has_the_slots_that_had_not_been_removed(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.engine.terminate(TerminateRequest(cluster_id=w.cluster_id, node_id="worker-1"))
        book, request, ended = await end(w)
        state, _ = await reopened(w.engine.context, book, request, ended)
        assert [slot.name for slot in state.slots] == ["worker-0", "worker-2"]
        assert {slot.state for slot in state.slots} == {"recovering"}
        assert state.slots.next_name("worker") == "worker-3"
        assert (state.terminated_at, state.final, state.end_recorded) == (None, None, False)


async def test_nodes_that_do_not_start_again_are_named_and_the_cluster_is_there(tmp_path):
    async with running(tmp_path, 2) as w:
        book, request, ended = await end(w)
        state, _ = await reopened(w.engine.context, book, request, ended)
        cluster = w.engine._add(with_parts(w.engine.context, state))
        for slot in state.slots:  # neither waits to be started
            slot.begin_start()
            slot.fail("no memory")
        again = await start_again(cluster, ended.terminated_at)
        assert (again.report.nodes, again.report.healthy_nodes) == (2, 0)
        assert "worker-0 did not start: no memory" in again.warnings[0]


async def test_a_live_cluster_is_nothing_to_restore(tmp_path):
    async with running(tmp_path, 0) as w:
        book = w.engine._clusters
        with pytest.raises(ClusterExists, match="has not ended"):
            ended_cluster(book, InitRequest(restore="unit"), "unit")
        again = InitRequest(restore="unit", reuse=True)
        assert ended_cluster(book, again, "unit") is w.cluster


async def test_deleted_files_a_taken_name_and_a_full_server_are_refused(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.train()
        context = w.engine.context
        book, request, ended = await end(w)
        refuse_restore(context, book, request, ended)
        await w.begin(0)
        with pytest.raises(ClusterExists, match="has the name 'unit'"):
            refuse_restore(context, book, request, ended)
        refuse_restore(context, book, InitRequest(restore="unit", name="other"), ended)
        refuse_more_clusters(context, context.settings.max_clusters - 1)
        with pytest.raises(LimitExceeded):
            refuse_more_clusters(context, context.settings.max_clusters)


async def test_a_cluster_whose_files_were_deleted_does_not_come_back(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.train()
        book, request, ended = await end(w, delete_artifacts=True)
        with pytest.raises(ClusterTerminated, match="deleted"):
            refuse_restore(w.engine.context, book, request, ended)
