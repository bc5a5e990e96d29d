"""Clusters are found by id and by name; of one that has ended a line is kept, and the rest read from disk."""

import pytest

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.operations.clusters import Clusters, EndedCluster, with_parts
from flow_nexus_neural.engine.operations.restore import restore
from flow_nexus_neural.engine.operations.terminate import terminate
from flow_nexus_neural.engine.requests import InitRequest, TerminateRequest
from flow_nexus_neural.errors import (
    AmbiguousCluster,
    ClusterNotFound,
    ClusterTerminated,
    StoreCorrupt,
)
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


def clusters_of(w):
    """A book of its own over the stored clusters, with the running one in it."""
    book = Clusters(w.engine.context)
    return book, book.add(with_parts(w.engine.context, w.cluster.state))


async def ended(w, book, cluster):
    await terminate(w.cluster, TerminateRequest(cluster_id=w.cluster_id))
    book.let_go(cluster)


def damage(w):
    w.engine.context.store._journal.write(
        lambda c: c.execute("UPDATE slots SET node_id='x' WHERE cluster_id=?", (w.cluster_id,))
    )


async def test_a_live_cluster_is_found_by_id_and_by_name(tmp_path):
    async with running(tmp_path, 0) as w:
        book, cluster = clusters_of(w)
        for text in (w.cluster_id, "unit"):
            assert book.find(text) is cluster
            assert await book.find_live(text) is cluster
            assert await book.read(text) is cluster
        assert book.live() == [cluster]


async def test_a_name_that_two_live_clusters_have_is_refused_with_their_ids(tmp_path):
    async with running(tmp_path, 0) as w:
        book, first = clusters_of(w)
        await w.engine.init_cluster(InitRequest(name="other"))
        await w.begin(0)
        second = book.add(with_parts(w.engine.context, w.cluster.state))
        with pytest.raises(AmbiguousCluster) as refusal:
            book.find("unit")
        assert f"{first.cluster_id}, {second.cluster_id}" in refusal.value.message
        await ended(w, book, second)
        assert book.find("unit") is first  # the name is unambiguous again


async def test_an_unknown_cluster_is_refused_with_those_that_are_known(tmp_path):
    async with running(tmp_path, 0) as w:
        book, _ = clusters_of(w)
        with pytest.raises(ClusterNotFound, match=rf"Known: {w.cluster_id} \(unit\)"):
            await book.read("nothing")
        with pytest.raises(ClusterNotFound, match="Known: none"):
            await Clusters(w.engine.context).find_live("nothing")


async def test_the_id_of_a_node_or_a_training_leads_to_its_cluster(tmp_path):
    async with running(tmp_path, 1) as w:
        training = await w.train()
        live, _ = clusters_of(w)
        stored = Clusters(w.engine.context)  # which has nothing in memory
        for text in (w.slots["worker-0"].node_id, training.training_id):
            for book in (live, stored):
                with pytest.raises(ClusterNotFound, match=f"of cluster {w.cluster_id}") as refusal:
                    await book.read(text)
                assert refusal.value.hint == f"pass cluster_id {w.cluster_id}"


async def test_of_a_cluster_that_has_ended_only_a_line_is_kept(tmp_path):
    async with running(tmp_path, 1) as w:
        book, cluster = clusters_of(w)
        await ended(w, book, cluster)
        (kept,) = book._known.values()
        assert kept == EndedCluster.of(cluster)
        assert kept.terminated_at == w.cluster.state.terminated_at is not None
        assert book.live() == []
        (line,) = (await book.report(None)).clusters
        assert line == kept.line.model_copy(update={"restorable": True})
        assert (line.cluster_id, line.name, line.status, line.created_at) == (
            w.cluster_id,
            "unit",
            "terminated",
            w.cluster.state.created_at,
        )


async def test_a_cluster_whose_end_is_not_durable_is_not_let_go(tmp_path):
    async with running(tmp_path, 0) as w:
        book, cluster = clusters_of(w)
        book.let_go(cluster)
        assert book.find("unit") is cluster
        w.cluster.state.end("noon")
        book.let_go(cluster)
        assert book.find(w.cluster_id) is cluster
        assert book.live() == []
        with pytest.raises(ClusterTerminated, match="noon"):
            await book.find_live(w.cluster_id)


async def test_one_that_has_ended_is_read_from_disk_for_each_call(tmp_path):
    async with running(tmp_path, 2) as w:
        training = await w.train()
        book, cluster = clusters_of(w)
        await ended(w, book, cluster)
        found = await book.read(w.cluster_id)
        assert isinstance(found, LiveCluster)
        assert found is not await book.read(w.cluster_id)
        assert found.state.final == w.cluster.state.final
        assert found.state.training(training.training_id).history == training.history
        assert found.committed.sha == w.committed.sha
        assert found.state.ledger_head == w.cluster.state.ledger_head
        assert isinstance(book._known[w.cluster_id], EndedCluster)


async def test_nothing_else_is_done_with_one_that_has_ended(tmp_path):
    async with running(tmp_path, 0) as w:
        book, cluster = clusters_of(w)
        await ended(w, book, cluster)
        with pytest.raises(ClusterTerminated, match=w.cluster_id):
            book.find(w.cluster_id)
        with pytest.raises(ClusterTerminated, match=w.cluster_id):
            await book.find_live(w.cluster_id)
        with pytest.raises(ClusterNotFound, match=f"ended with this name: {w.cluster_id}"):
            await book.read("unit")


async def test_one_that_has_ended_is_verified_whenever_it_is_read(tmp_path):
    async with running(tmp_path, 1) as w:
        book, cluster = clusters_of(w)
        await ended(w, book, cluster)
        await book.read(w.cluster_id)
        damage(w)
        with pytest.raises(StoreCorrupt, match=f"cluster {w.cluster_id} does not verify: its row"):
            await book.read(w.cluster_id)


async def test_one_that_cannot_be_read_is_listed_and_refused_by_id_and_by_name(tmp_path):
    async with running(tmp_path, 1) as w:
        broken = w.cluster_id
        damage(w)
        await w.begin(0)
        found = await restore(w.engine.context)
        book = Clusters(w.engine.context)
        book.refuse(found.refused, found.names)
        live = [book.add(with_parts(w.engine.context, state)) for state in found.clusters]
        assert [one.cluster_id for one in live] == [w.cluster_id]
        assert book.unreadable_named("unit") == [broken]
        first, last = (await book.report(None)).clusters
        assert (first.cluster_id, first.name) == (w.cluster_id, "unit")
        assert (last.cluster_id, last.name, last.status) == (broken, "unit", "unreadable")
        with pytest.raises(StoreCorrupt, match=f"cluster {broken} does not verify"):
            await book.read(broken)
        assert book.find("unit") is live[0]  # a live one of the name goes before
        alone = Clusters(w.engine.context)
        alone.refuse(found.refused, found.names)
        with pytest.raises(StoreCorrupt, match=f"cluster {broken} does not verify"):
            await alone.read("unit")
