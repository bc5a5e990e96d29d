"""Voters that are real processes: the leader killed and frozen while a cluster trains, and the server."""

import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest

from flow_nexus_neural.coordination.consensus.raft.applied import record
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.raft.gate import voters_of
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.sim.schedules import newest_version
from tests.sim.simulated import World, node_of

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
KILLS = 20
FAILOVER_MS = 2500
"""What a decision may take in which the leader turns out to be dead."""


@asynccontextmanager
async def opened(state_dir):
    async with Engine.open(Settings(state_dir=state_dir)) as engine:
        yield World(engine, engine.context.runtime, None)


async def cluster_of_voters(w):
    """Two parameter servers, a validator and three workers: five vote."""
    cluster = await w.cluster(3, consensus="raft")
    for role in ("parameter_server", "parameter_server", "validator"):
        await w.deploy(cluster, role, layers=None)
    return cluster


async def leader_of(w, cluster):
    """The slot and process id of whoever leads; None where nobody is known to."""
    status = await w.status(cluster)
    name = status.consensus_report["raft"]["leader"]
    return None if name is None else (name, node_of(status, name).pid)


async def digests(w, cluster):
    return [entry["weights_digest"] for entry in await w.versions(cluster)]


async def test_twenty_killed_leaders_change_nothing_of_what_is_learnt(tmp_path):
    rounds = 2 * KILLS + 5
    async with opened(tmp_path / "undisturbed") as w:
        cluster = await cluster_of_voters(w)
        assert (await w.train(cluster, epochs=rounds, patience=0)).training_status == ("completed")
        expected = await digests(w, cluster)
    killed, decisions_ms = [], []
    async with opened(tmp_path / "disturbed") as w:
        cluster = await cluster_of_voters(w)
        group = voters_of(w.engine.cluster(cluster))
        await w.start(cluster, epochs=rounds, patience=0)
        while len(killed) < KILLS:
            done = (await w.status(cluster)).training.current_round
            found = await leader_of(w, cluster)
            if found is None:
                await w.rounds(cluster, done + 1)
                continue
            name, pid = found
            os.kill(pid, signal.SIGKILL)
            killed.append(name)
            await w.rounds(cluster, done + 2)
            decisions_ms.append(group.commit_ms)
            if not node_of(await w.status(cluster), name).healthy:
                await w.deploy(cluster, name.rsplit("-", 1)[0], layers=None)
        status = await w.done(cluster)
        assert (status.training_status, status.training_error) == ("completed", None)
        assert await digests(w, cluster) == expected
        report = status.consensus_report["raft"]
        assert report["elections"] > 10
        assert report["applied_index"] == report["commit_index"]
        assert max(decisions_ms) < FAILOVER_MS


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_leader_that_is_dead_or_frozen_delays_one_decision_by_a_moment(tmp_path, blow):
    async with opened(tmp_path) as w:
        cluster = await cluster_of_voters(w)
        await w.train(cluster, epochs=2)
        group = voters_of(w.engine.cluster(cluster))
        name, pid = await leader_of(w, cluster)
        present = w.engine.cluster(cluster).committed
        os.kill(pid, blow)
        try:
            began_s = anyio.current_time()
            await group.commit(record(present.version + 1, present.version, []), present.networks)
            took_ms = (anyio.current_time() - began_s) * 1e3
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        assert took_ms < FAILOVER_MS
        assert group.network.leader().name != name


async def test_term_vote_and_log_survive_the_server(tmp_path):
    state_dir = tmp_path / "state"
    command = [sys.executable, "-m", "tests.fault.programs.raft_server", str(state_dir)]
    async with await anyio.open_process(command, cwd=ROOT, stderr=None) as server:
        with anyio.fail_after(HANG_S):
            cluster = (await server.stdout.receive()).decode().strip()
        server.kill()
    async with opened(state_dir) as w:
        stored = await w.engine.context.store.voters(cluster)
        assert sorted(stored) == ["worker-0", "worker-1", "worker-2"]
        assert all(records.hard.term >= 1 for records in stored.values())
        assert any(records.hard.vote for records in stored.values())
        status = await w.status(cluster)
        assert status.consensus_report["raft"]["term"] == max(r.hard.term for r in stored.values())
        served = status.model_version
        assert served >= 3
        # What was served is on more than half of the disks' logs, and the next term goes on from there.
        having = [name for name, records in stored.items() if newest_version(records) >= served]
        assert len(having) >= 2
        await w.train(cluster, epochs=2)
        status = await w.status(cluster)
        report = status.consensus_report["raft"]
        assert report["term"] > max(records.hard.term for records in stored.values())
        assert status.model_version >= served + 2
        versions = [entry["model_version"] for entry in await w.versions(cluster)]
        assert versions == list(range(1, len(versions) + 1))
