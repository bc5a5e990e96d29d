"""Clusters by id and name, in a line each, whatever has become of them."""

import pytest

from flow_nexus_neural.engine.context import Notices
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.operations.clusters import Clusters, EndedCluster
from flow_nexus_neural.engine.requests import InitRequest, ListRequest, TerminateRequest
from flow_nexus_neural.errors import (
    AmbiguousCluster,
    ClusterNotFound,
    ClusterTerminated,
    StoreCorrupt,
)
from flow_nexus_neural.settings import Settings
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


async def test_a_cluster_is_found_by_id_and_by_a_name_that_only_one_has(tmp_path):
    async with running(tmp_path, 1) as w:
        assert w.engine.cluster("unit") is w.engine.cluster(w.cluster_id) is w.cluster
        await w.engine.init_cluster(InitRequest(name="unit"))
        with pytest.raises(AmbiguousCluster, match=w.cluster_id):
            w.engine.cluster("unit")
        with pytest.raises(ClusterNotFound, match="'nothing'"):
            w.engine.cluster("nothing")


async def test_of_an_ended_cluster_a_line_is_kept_that_says_what_it_was(tmp_path):
    async with running(tmp_path, 2) as w:
        before = EndedCluster.of(w.cluster)
        await w.engine.terminate(TerminateRequest(cluster_id=w.cluster_id))
        with pytest.raises(ClusterTerminated):
            w.engine.cluster(w.cluster_id)
        (line,) = (await w.engine.clusters()).clusters
        assert (line.name, line.status) == (before.name, "terminated")
        assert (line.active_nodes, line.total_nodes, line.model_version) == (0, 0, None)


async def test_a_list_is_cut_to_the_newest_and_counts_all(tmp_path):
    async with running(tmp_path, 0) as w:
        for number in range(3):
            await w.engine.init_cluster(InitRequest(name=f"c{number}"))
        await w.engine.terminate(TerminateRequest(cluster_id="c0"))
        cut = await w.engine.clusters(ListRequest(limit=2))
        assert [line.name for line in cut.clusters] == ["c1", "c2"]
        assert (cut.live, cut.ended) == (3, 1)
        assert cut.warnings == ["1 older clusters are not listed; a larger limit lists them too"]
        everything = await w.engine.clusters(ListRequest(include_ended=True))
        assert [line.name for line in everything.clusters] == ["unit", "c0", "c1", "c2"]


async def test_what_cannot_be_read_is_always_listed_with_the_reason(tmp_path):
    async with running(tmp_path, 0) as w:
        clusters = Clusters(w.engine.context)
        clusters.refuse({"dnc_lost": "blob 12 has changed"}, {"dnc_lost": "lost"})
        told = await clusters.report(ListRequest(limit=1))
        (line,) = told.clusters
        assert (line.cluster_id, line.name, line.status) == ("dnc_lost", "lost", "unreadable")
        assert (line.total_nodes, line.training_status, line.model_version) == (None, None, None)
        assert told.warnings == ["dnc_lost cannot be read: blob 12 has changed"]
        with pytest.raises(StoreCorrupt, match="blob 12 has changed"):
            clusters.find("lost")


async def test_where_the_engine_keeps_its_clusters_is_told_where_none_is_found(tmp_path):
    async with running(tmp_path / "nodes", 0) as w:
        opened = Engine.open(
            Settings(state_dir=tmp_path / "own"),
            runtime=w.runtime,
            notices=Notices(always=("this is another place",), lists=("there is a third",)),
        )
        async with opened as engine:
            told = await engine.clusters()
            assert told.warnings == ["this is another place", "there is a third"]
            with pytest.raises(ClusterNotFound) as caught:
                engine.cluster("nothing")
            assert caught.value.hint.startswith("this is another place. ")
