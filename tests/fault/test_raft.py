"""Voters that are real processes: the leader killed and frozen while a cluster trains, and the server."""

import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from flow_nexus_neural.coordination.consensus.raft.applied import record
from flow_nexus_neural.coordination.consensus.raft.timing import ELECTION_MS
from flow_nexus_neural.coordination.rounds import RoundPatience
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.patience import USUAL_PATIENCE, Deadline
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.engine.raft import group as voters
from flow_nexus_neural.engine.raft.gate import voters_of
from flow_nexus_neural.engine.raft.network import TICK_MS
from flow_nexus_neural.engine.raft.weights import hand_out
from flow_nexus_neural.errors import ConsensusUnavailable
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.sim.schedules import newest_version
from tests.sim.simulated import World, node_of

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
KILLS = 20
ENDLESS = {"epochs": 1000, "patience": 0}
FAILOVER_ROUNDS = 80
"""Of a decision in which the leader turns out to be dead; an election is some dozens of steps."""
CALM = replace(
    USUAL_PATIENCE,
    raft=Deadline(HANG_S, None),
    majority_s=HANG_S,
    rounds=RoundPatience(least_s=HANG_S),
)
"""Who is slow is waited for: only who is killed is missing, however busy the machine is."""
FROZEN = replace(CALM, raft=Deadline(3.0, None))
"""For voters that are stopped, which are waited for once."""
SHORT = replace(CALM, majority_s=10.0)
"""Nobody waits longer for a majority that is not there."""


@asynccontextmanager
async def opened(state_dir, patience=CALM, **more):
    ports = Ports(patience=patience)
    async with Engine.open(Settings(state_dir=state_dir), ports=ports, **more) as engine:
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
    node = None if name is None else node_of(status, name)
    return (name, node.pid) if node is not None and node.healthy else None


async def led(w, cluster):
    """The voters of a cluster when one of them leads: leadership may be on its way from one to another."""
    group = voters_of(w.engine.cluster(cluster))
    present = w.engine.cluster(cluster).committed
    with anyio.fail_after(HANG_S):
        while group.network.leader() is None:
            version = group.applied.version
            await group.commit(record(version + 1, version, []), present.networks)
            await group.settle()
    return group


async def stopped(w, cluster, started):
    """End a training that is running well; the digests of its rounds."""
    status = await w.status(cluster)
    assert (status.training_status, status.training_error) == ("running", None)
    await w.terminate(cluster, training_id=started.training_id)
    return [entry["weights_digest"] for entry in await w.round_versions(cluster)]


async def test_twenty_killed_leaders_change_nothing_of_what_is_learnt(tmp_path):
    killed = []
    async with opened(tmp_path / "disturbed") as w:
        cluster = await cluster_of_voters(w)
        started = await w.start(cluster, **ENDLESS)
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
            await w.until(cluster, lambda s, name=name: not node_of(s, name).healthy)
            await w.deploy(cluster, name.rsplit("-", 1)[0], layers=None)
        report = (await w.status(cluster)).consensus_report["raft"]
        assert report["elections"] > 10
        learnt = await stopped(w, cluster, started)
        await led(w, cluster)
        report = (await w.status(cluster)).consensus_report["raft"]
        assert report["applied_index"] == report["commit_index"]
    assert len(learnt) >= 2 * KILLS
    async with opened(tmp_path / "undisturbed") as w:
        cluster = await cluster_of_voters(w)
        started = await w.start(cluster, **ENDLESS)
        await w.rounds(cluster, len(learnt))
        assert (await stopped(w, cluster, started))[: len(learnt)] == learnt


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
async def test_another_voter_leads_as_soon_as_something_is_decided(tmp_path, blow):
    async with opened(tmp_path, FROZEN if blow == signal.SIGSTOP else CALM) as w:
        cluster = await cluster_of_voters(w)
        await w.train(cluster, epochs=2)
        group = await led(w, cluster)
        name, pid = await leader_of(w, cluster)
        present = w.engine.cluster(cluster).committed
        version = group.applied.version
        rounds, timeouts = (
            counted(group.network, "round"),
            counted(group.network.seats[name], "fall_silent"),
        )
        os.kill(pid, blow)
        try:
            await group.commit(record(version + 1, version, []), present.networks)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        assert group.network.leader().name != name
        assert len(rounds) < FAILOVER_ROUNDS
        # A frozen voter was waited for once, and not in every round.
        assert len(timeouts) == (blow == signal.SIGSTOP)


async def trained(w):
    """Three workers that vote and have a version; the voters, and how to let them agree on the next one."""
    cluster = await w.cluster(3, consensus="raft")
    assert (await w.train(cluster, epochs=2)).training_status == "completed"
    group = voters_of(w.engine.cluster(cluster))

    async def decide(what):
        present = w.engine.cluster(cluster).committed
        version = group.applied.version
        await group.commit(record(version + 1, version, [what]), present.networks)
        await group.settle()

    return cluster, group, decide


async def test_a_leader_that_is_cut_off_commits_nothing_and_steps_down(tmp_path):
    async with opened(tmp_path) as w:  # nothing here waits for its patience to end
        cluster, group, decide = await trained(w)
        await led(w, cluster)
        cut_off = group.network.leader().name
        before = group.network.seats[cut_off].report.commit
        group.network.passes = lambda m: cut_off not in (m.sender, m.to)
        await decide("without it")
        seat = group.network.seats[cut_off]
        for _ in range(
            2 * ELECTION_MS // TICK_MS
        ):  # it counts who answers once in an election timeout
            await group.network.round(TICK_MS)
        assert (seat.report.role != "leader", seat.report.commit) == (True, before)
        assert (await led(w, cluster)).network.leader().name != cut_off
        group.network.passes = lambda message: True
        await decide("with it")
        assert seat.report.commit > before


async def test_a_follower_without_the_weights_does_not_acknowledge(tmp_path, monkeypatch):
    async with opened(tmp_path, SHORT) as w:
        cluster, group, _ = await trained(w)
        await led(w, cluster)
        leader = group.network.leader().name

        async def to_the_leader_only(live, present, networks):
            only = [one for one in present if one[0].name == leader]
            return await hand_out(live, only, networks)

        monkeypatch.setattr(voters, "hand_out", to_the_leader_only)
        before = (await w.status(cluster)).model_version
        status = await w.train(cluster, epochs=1)
        assert status.training_status == "failed"
        assert "no majority of the voters acknowledged it" in status.training_error
        assert status.model_version == before
        seats = group.network.seats.values()
        index = max(seat.records.last_index for seat in seats)
        assert all(seat.records.last_index == index for seat in seats)  # every log has it
        assert all(m < index for m in group.network.leader().report.matched.values())


async def test_two_voters_of_three_go_on_and_one_does_not_and_predictions_do(tmp_path):
    async with opened(tmp_path, SHORT) as w:
        cluster, _, decide = await trained(w)
        for n_left in (2, 1):
            status = await w.status(cluster)
            os.kill(node_of(status, f"worker-{n_left}").pid, signal.SIGKILL)
            await w.until(cluster, lambda s, n=n_left: s.failed_nodes == 3 - n)
            if n_left == 2:
                await decide("two of three")
        with pytest.raises(ConsensusUnavailable):
            await decide("one of three")
        report = (await w.status(cluster)).consensus_report
        assert report["available"] is False
        assert "1 of 3 voters are alive and 2 are needed" in report["reason"]
        assert (await w.predict(cluster)).stale


def counted(owner, method):
    """A list that grows with every call of a method from now on."""
    calls, original = [], getattr(owner, method)

    def call(*arguments):
        calls.append(arguments)
        return original(*arguments)

    setattr(owner, method, call)
    return calls


async def test_term_vote_and_log_survive_the_server(tmp_path):
    state_dir = tmp_path / "state"
    command = [sys.executable, "-m", "tests.fault.programs.raft_server", str(state_dir)]
    async with await anyio.open_process(command, cwd=ROOT, stderr=None) as server:
        with anyio.fail_after(HANG_S):
            cluster = (await server.stdout.receive()).decode().strip()
        server.kill()
    # As the server left it: nobody votes again before all of this is read.
    async with opened(state_dir, goes_on=False) as w:
        stored = await w.engine.context.store.voters(cluster)
        assert sorted(stored) == ["worker-0", "worker-1", "worker-2"]
        assert all(records.hard.term >= 1 for records in stored.values())
        assert any(records.hard.vote for records in stored.values())
        status = await w.status(cluster)
        assert status.consensus_report["raft"]["term"] == max(r.hard.term for r in stored.values())
        served = status.model_version
        assert served >= 3
        # What was served is on more than half of the disks' logs.
        having = [name for name, records in stored.items() if newest_version(records) >= served]
        assert len(having) >= 2
    # The next term goes on from there: the training that ran goes on in it.
    async with opened(state_dir) as w:
        status = await w.rounds(cluster, status.training.current_round + 2)
        assert (status.training_status, status.training.resumed.times) == ("running", 1)
        report = status.consensus_report["raft"]
        assert report["term"] > max(records.hard.term for records in stored.values())
        assert status.model_version >= served + 2
        versions = [entry["model_version"] for entry in await w.versions(cluster)]
        assert versions == list(range(1, len(versions) + 1))
