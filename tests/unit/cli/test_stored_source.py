"""Stored clusters as the dashboard's source, while another server has the state directory."""

import anyio
import pytest

from flow_nexus_neural.cli.stored_source import StoredSource
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.requests import DeployRequest, InitRequest, TerminateRequest
from flow_nexus_neural.errors import ClusterNotFound
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.sim.simulated import honest


@pytest.mark.anyio
async def test_a_directory_that_a_server_has_is_shown_as_stored_and_followed(tmp_path):
    settings = Settings(state_dir=tmp_path)
    source = StoredSource(settings)
    async with Engine.open(settings, runtime=InprocRuntime(honest)) as engine:
        one = await engine.init_cluster(InitRequest(name="one"))
        assert [line["name"] for line in await source.clusters()] == ["one"]
        shown = await source.show(one.cluster_id)
        assert shown.seen == "stored"
        assert shown.status["name"] == "one"
        known_to_the_server = ("active_nodes", "guarantees", "recent_predictions", "uptime_seconds")
        assert {shown.status[name] for name in known_to_the_server} == {None}
        assert set(shown.status["latency"].values()) == {None}
        assert shown.rounds == []
        assert shown.recorded_links is None  # never linked
        with pytest.raises(ClusterNotFound):
            await source.show("dnc_nothing")
        waited = anyio.Event()

        async def follow():
            await source.wait(HANG_S)
            waited.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await engine.init_cluster(InitRequest(name="two"))
            await waited.wait()
        assert [line["name"] for line in await source.clusters()] == ["one", "two"]
        await engine.terminate(TerminateRequest(cluster_id=one.cluster_id))
        assert [line["name"] for line in await source.clusters()] == ["two"]


@pytest.mark.anyio
async def test_nothing_is_read_again_while_nothing_was_written(tmp_path, monkeypatch):
    settings = Settings(state_dir=tmp_path, max_clusters=60)
    async with Engine.open(settings, runtime=InprocRuntime(honest)) as engine:
        for n in range(52):
            last = await engine.init_cluster(InitRequest(name=f"n{n}"))
        await engine.terminate(TerminateRequest(cluster_id=last.cluster_id))
    source = StoredSource(settings)
    first = await source.clusters()
    assert [one["name"] for one in first] == [f"n{n}" for n in range(51)], "every one, however many"
    monkeypatch.setattr(
        "flow_nexus_neural.cli.stored_source.look", None
    )  # would fail if it were called
    assert await source.clusters() == first


@pytest.mark.anyio
async def test_a_copy_says_nothing_of_processes_that_it_has_not(tmp_path):
    """Its own nodes do not run: raft would have lost its voters, and WebAssembly be refused."""
    settings = Settings(state_dir=tmp_path)
    async with (
        InprocRuntime(honest) as runtime,
        Engine.open(settings, runtime=runtime) as engine,
    ):
        one = await engine.init_cluster(InitRequest(name="one", consensus="raft"))
        await engine.deploy_node(DeployRequest(cluster_id=one.cluster_id, count=3))
        served = (await StoredSource(settings).show(one.cluster_id)).status
    alone = (await StoredSource(settings).show(one.cluster_id)).status
    assert (served["status"], alone["status"], alone["active_nodes"]) == ("running", "stopped", 0)
    for shown in (served, alone):
        assert {shown[name] for name in ("consensus_report", "failed_nodes", "uptime")} == {None}
        wasm = shown["wasm"]
        assert wasm == {"requested": True, "active": None, "reason": None, "nodes": None}
        assert shown["features"]["wasm_enabled"] is None
