"""Who votes, when something is decided, and what happens when a majority is missing."""

import anyio
import pytest

from flow_nexus_neural.coordination.consensus.raft.applied import body_digest, record
from flow_nexus_neural.coordination.consensus.raft.timing import ELECTION_MS
from flow_nexus_neural.engine.raft import group
from flow_nexus_neural.engine.raft.group import VoterGroup
from flow_nexus_neural.engine.raft.network import TICK_MS
from flow_nexus_neural.engine.requests import TerminateRequest
from flow_nexus_neural.errors import ConsensusUnavailable, StoreUnavailable, UpdateRejected
from flow_nexus_neural.protocol.raft_records import LogChange, LogEntry
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.unit.engine.raft.voting import commit, elected, led_by, voting


def on_disk(w, body):
    """Voters whose durable log has a record."""
    return {
        name
        for name, seat in w.group.network.seats.items()
        if any(entry.body == body for entry in seat.records.entries)
    }


async def test_a_record_is_decided_when_a_majority_has_it_on_disk(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        assert w.group.applied.version == 1
        assert len(on_disk(w, record(1, 0, []))) == 3
        assert w.group.commit_ms is not None
        await commit(w, 2)
        assert (w.group.applied.version, w.group.elections) == (2, 1)


async def test_two_voters_of_three_decide_and_one_does_not_and_says_why(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        await w.kill("worker-0")
        await commit(w, 2)
        assert w.group.applied.version == 2
        await w.kill("worker-1")
        assert "1 of 3 voters are alive and 2 are needed" in w.group.missing
        began_s = w.cluster.clock()
        with pytest.raises(ConsensusUnavailable, match="lost: worker-0, worker-1"):
            await commit(w, 3)
        waited_s = w.cluster.clock() - began_s
        assert 20.0 <= waited_s < 22.0
        assert w.group.applied.version == 2
        await w.deploy(layers=None)
        await commit(w, 3)
        assert w.group.applied.version == 3


async def test_waiting_ends_with_the_voter_that_comes_back(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        await w.kill("worker-1")
        await w.kill("worker-2")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(w.group.wait)
            tasks.start_soon(commit, w, 2)
            await anyio.wait_all_tasks_blocked()
            await w.deploy(layers=None)
        assert w.group.applied.version == 2
        await w.group.wait()


async def test_the_death_of_the_leader_is_noticed_when_something_is_decided(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        first = led_by(w)
        await w.kill(first)
        assert w.group.network.leader() is None
        await commit(w, 2)
        assert led_by(w) != first
        assert w.group.elections == 2


@pytest.mark.parametrize("fault", ["freeze", "kill", "ignore"])
async def test_a_leader_that_dies_or_freezes_in_the_middle_costs_less_than_three_seconds(
    tmp_path, fault
):
    faults = FaultPlan()
    async with voting(tmp_path, 5, faults=faults) as w:
        await commit(w, 1)
        first = led_by(w)
        for nth in (1, 2, 3):  # its next step, or one of those after
            getattr(faults, fault)(first, "raft_step", nth=faults.met(first, "raft_step") + nth)
            began_s = w.cluster.clock()
            await commit(w, 1 + nth)
            assert w.cluster.clock() - began_s < 2.5
            assert w.group.applied.version == 1 + nth
            if led_by(w) != first:
                break
        assert led_by(w) != first


async def test_a_leader_that_reaches_no_majority_decides_nothing_and_another_one_does(tmp_path):
    async with voting(tmp_path, 5) as w:
        await commit(w, 1)
        cut_off = led_by(w)
        w.group.network.passes = lambda m: cut_off not in (m.sender, m.to)
        await commit(w, 2)
        assert led_by(w) != cut_off
        seat = w.group.network.seats[cut_off]
        for _ in range(
            2 * ELECTION_MS // TICK_MS
        ):  # it counts who answers once in an election timeout
            await w.group.network.round(TICK_MS)
        assert seat.report.role != "leader"  # check quorum: it stepped down by itself
        assert seat.report.commit < w.group.network.leader().report.commit
        w.group.network.passes = lambda message: True
        await commit(w, 3)
        assert cut_off in on_disk(w, record(3, 2, []))


async def test_where_no_message_arrives_nothing_is_decided(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        w.group.network.passes = lambda message: False
        with pytest.raises(ConsensusUnavailable, match="no majority of the voters acknowledged it"):
            await commit(w, 2)
        assert w.group.applied.version == 1


async def test_what_one_log_alone_calls_committed_is_not_believed(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        seat = w.group.network.leader()
        index = seat.records.last_index + 1
        entry = LogEntry(index, seat.rank[0], "record", record(2, 1, []))
        seat.records = seat.records.after(None, None, LogChange(index - 1, (entry,)))
        seat.report = seat.report.model_copy(update={"commit": index, "last": index})
        w.group._apply(seat)
        assert w.group.applied.version == 1


async def test_a_record_that_was_given_up_is_replaced_by_the_next_one(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        await w.kill("worker-1")
        await w.kill("worker-2")
        lost = record(2, 1, ["lost"])
        with pytest.raises(ConsensusUnavailable):
            await w.group.commit(lost, {})
        await w.deploy(layers=None)
        kept = record(2, 1, ["kept"])
        await w.group.commit(kept, {})
        assert w.group.applied.digest == body_digest(kept)


async def test_a_record_that_does_not_follow_is_refused_at_once(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        with pytest.raises(UpdateRejected, match="at version 1, which this one does not follow"):
            await commit(w, 9)
        await commit(w, 2)
        assert w.group.applied.version == 2


async def test_the_voters_are_chosen_by_role_and_a_parameter_server_leads(tmp_path):
    async with voting(tmp_path, 4) as w:
        await w.deploy("validator")
        await w.deploy("parameter_server")
        await w.deploy("aggregator")
        chosen = {"parameter_server-0", "validator-0", "aggregator-0", "worker-0", "worker-1"}
        assert set(w.group.voters) == chosen
        await commit(w, 1)
        assert set(w.group.network.voters()) == chosen
        assert led_by(w) == "parameter_server-0"


async def test_a_preferred_voter_takes_over_from_another_leader(tmp_path):
    async with voting(tmp_path, 2) as w:
        await w.deploy("parameter_server")
        await commit(w, 1)
        await w.kill("parameter_server-0")
        await commit(w, 2)
        assert led_by(w).startswith("worker")
        await w.deploy("parameter_server", layers=None)
        await commit(w, 3)
        assert led_by(w) == "parameter_server-0"


async def test_who_votes_follows_the_nodes_there_are(tmp_path):
    async with voting(tmp_path, 2) as w:
        await commit(w, 1)
        assert w.group.network.voters() == ("worker-0",)  # two never vote
        await w.deploy()
        await commit(w, 2)
        assert w.group.network.voters() == ("worker-0", "worker-1", "worker-2")
        await w.deploy()
        await w.kill("worker-0")
        await commit(w, 3)
        assert w.group.network.voters() == ("worker-1", "worker-2", "worker-3")
        assert w.group.applied.version == 3


async def test_a_slot_that_leaves_gives_up_its_vote_while_it_still_has_it(tmp_path):
    async with voting(tmp_path, 3) as w:
        await commit(w, 1)
        await w.group.leave(w.slots["worker-2"])
        assert w.group.network.voters() == ("worker-0",)
        await w.group.leave(w.slots["worker-2"])  # no voter any more
        await commit(w, 2)


async def test_a_voter_that_was_out_remembers_its_term_when_it_is_back(tmp_path):
    async with voting(tmp_path, 4) as w:
        await commit(w, 1)
        gone = next(n for n in w.group.network.voters() if n != led_by(w))
        await w.kill(gone)
        await commit(w, 2)
        assert gone not in w.group.network.voters()
        term = w.group.network.seats[gone].records.hard.term
        assert term > 0
        stored = await w.engine.context.store.voters(w.cluster_id)
        assert stored[gone].hard.term == term


async def test_a_long_log_is_compacted_and_who_missed_it_gets_the_snapshot(tmp_path, monkeypatch):
    monkeypatch.setattr(group, "MAX_LOG_ENTRIES", 6)
    async with voting(tmp_path) as w:
        await commit(w, 1)
        late = next(n for n in w.group.network.voters() if n != led_by(w))
        w.group.network.passes = lambda m: late not in (m.sender, m.to)
        for version in range(2, 12):
            await commit(w, version)
        assert w.group.network.leader().records.snapshot.index > 0
        assert w.group.network.seats[late].records.snapshot.index == 0
        w.group.network.passes = lambda message: True
        await commit(w, 12)
        await w.group._settle()
        assert w.group.network.seats[late].records.snapshot.index > 0
        again = VoterGroup(w.cluster)
        await again.load()
        assert again.applied.index > 0


async def test_a_new_engine_knows_term_vote_and_log(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        before = {n: s.records for n, s in w.group.network.seats.items()}
        again = VoterGroup(w.cluster)
        await again.load()
        assert {n: s.records for n, s in again.network.seats.items()} == before
        assert again.voters == ("worker-0", "worker-1", "worker-2")
        await again.commit(record(2, 1, []), {})
        assert again.network.leader().records.hard.term > max(r.hard.term for r in before.values())


async def test_records_that_cannot_be_read_are_never_replaced_by_new_ones(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        journal = w.engine.context.store._journal
        journal.write(
            lambda connection: connection.execute("UPDATE raft_voters SET term=7") and None
        )
        again = VoterGroup(w.cluster)
        await again.load()
        assert "cannot be read" in again.missing
        with pytest.raises(ConsensusUnavailable, match="cannot be read"):
            await again.commit(record(2, 1, []), {})
        with pytest.raises(ConsensusUnavailable):
            await again.wait()
        assert again.network.seats == {}


async def test_a_cluster_without_nodes_can_decide_nothing(tmp_path):
    async with voting(tmp_path, 0) as w:
        assert "no node can vote" in w.group.missing
        with pytest.raises(ConsensusUnavailable):
            await commit(w, 1)


async def test_any_voter_can_be_made_to_lead(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        other = next(n for n in w.group.network.voters() if n != led_by(w))
        await elected(w, other)
        await commit(w, 2)
        assert w.group.applied.version == 2


async def test_voters_that_could_not_be_read_once_are_read_again_and_never_begun_anew(
    tmp_path, monkeypatch
):
    async with voting(tmp_path) as w:
        for version in (1, 2, 3):
            await commit(w, version)
        store, failures = w.cluster.context.store, [StoreUnavailable("disk I/O error")]
        before, real = await store.voters(w.cluster_id), type(store).voters

        async def voters(self, cluster_id):
            if failures:
                raise failures.pop()
            return await real(self, cluster_id)

        monkeypatch.setattr(type(store), "voters", voters)
        w.group = VoterGroup(w.cluster)
        with pytest.raises(StoreUnavailable):
            await commit(w, 8, parent=7)
        assert "disk I/O error" in w.group.missing
        assert await store.voters(w.cluster_id) == before
        await commit(w, 4)
        assert w.group.applied.version == 4
        assert w.group.missing is None


async def test_who_comes_while_voters_are_read_waits_for_them(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        again, seen = VoterGroup(w.cluster), []

        async def come():
            await again.load()
            seen.append(sorted(again.network.seats))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(come)
            tasks.start_soon(come)
        assert seen == [["worker-0", "worker-1", "worker-2"]] * 2


async def remove(w, name):
    return await w.engine.terminate(
        TerminateRequest(cluster_id=w.cluster_id, node_id=w.slots[name].node_id)
    )


async def test_where_the_only_voter_is_removed_while_it_is_lost_new_ones_begin(tmp_path):
    async with voting(tmp_path, 2) as w:
        await commit(w, 1)
        await commit(w, 2)
        assert w.group.network.voters() == ("worker-0",)
        await w.kill("worker-0")
        report = await remove(w, "worker-0")
        assert not any("voter" in warning for warning in report.warnings)
        assert w.group.missing is None
        await commit(w, 3)
        assert (w.group.network.voters(), w.group.applied.version) == (("worker-1",), 3)


async def test_new_voters_begin_from_what_the_former_log_came_to(tmp_path):
    async with voting(tmp_path, 2) as w:
        await w.train(epochs=2)
        served = w.committed.version
        (voter,) = w.group.network.voters()
        await w.kill(voter)
        await remove(w, voter)
        with pytest.raises(UpdateRejected, match=f"at version {served}, which this one"):
            await commit(w, 90)
        await commit(w, served + 1)
        assert w.group.applied.version == served + 1


async def test_where_most_voters_are_removed_the_others_begin_anew_also_after_a_restart(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        for name in ("worker-0", "worker-1"):
            await w.kill(name)
        report = await remove(w, "worker-0")
        assert any("still counted as a voter" in warning for warning in report.warnings)
        assert (
            "lost: worker-0, worker-1. Replace worker-1 with neural_node_deploy" in w.group.missing
        )
        await remove(w, "worker-1")
        w.group = VoterGroup(w.cluster)
        await w.group.load()
        assert w.group.missing is None
        await commit(w, 2)
        assert (w.group.network.voters(), w.group.applied.version) == (("worker-2",), 2)
        again = VoterGroup(w.cluster)
        await again.load()
        assert again.network.voters() == ("worker-2",)
        await again.commit(record(3, 2, []), {})
        assert again.applied.version == 3


async def test_where_all_voters_are_removed_those_that_are_deployed_later_begin(tmp_path):
    async with voting(tmp_path, 1) as w:
        await commit(w, 1)
        await remove(w, "worker-0")
        assert "no node can vote: deploy nodes" in w.group.missing
        await w.deploy()
        await commit(w, 2)
        assert (w.group.network.voters(), w.group.applied.version) == (("worker-1",), 2)


async def commit_after(w, version, held_s):
    """A record while what follows the one before is at work for so long; how long the record took."""
    began_s = w.cluster.clock()
    await w.group._turn.acquire()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(w.group.commit, record(version, version - 1, []), {})
        await anyio.sleep(held_s)  # virtual time
        w.group._turn.release()
    return w.cluster.clock() - began_s


async def test_a_record_counts_the_time_that_it_waits_for_what_follows_the_one_before(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        took_s = await commit_after(w, 2, held_s=3.0)
        assert 3000 <= w.group.commit_ms <= took_s * 1e3
        with pytest.raises(BaseExceptionGroup) as failed:
            await commit_after(w, 3, held_s=25.0)
        assert failed.group_contains(ConsensusUnavailable)


async def test_what_follows_a_record_does_not_hold_up_the_next_for_long(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        await w.deploy("validator")
        await w.deploy("validator")
        w.group.network.passes = lambda m: m.kind != "append_reply"  # no change is ever decided
        began_s = w.cluster.clock()
        await w.group.settle()
        assert w.cluster.clock() - began_s < 6.0
