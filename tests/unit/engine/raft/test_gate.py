"""Under raft a version is visible only when its record is committed; under other modes nothing changes."""

import json
from dataclasses import replace

import pytest

from flow_nexus_neural.engine.ports import REAL_PORTS
from flow_nexus_neural.engine.raft.gate import agree, await_majority, cannot_decide, voters_of
from flow_nexus_neural.engine.raft.report import raft_report
from flow_nexus_neural.errors import ConsensusUnavailable, StoreUnavailable
from flow_nexus_neural.protocol.digest import json_digest
from tests.unit.engine.raft.voting import commit, led_by, voting
from tests.unit.engine.running import running

HASTY = replace(REAL_PORTS, patience=replace(REAL_PORTS.patience, majority_s=2.0))


async def _lose_two(w):
    await w.kill("worker-1")
    await w.kill("worker-2")


async def versions(w):
    return [entry["model_version"] for entry in await w.ledger("version")]


def records(w):
    """Replicated records of the leader's log, parsed."""
    seat = w.group.network.leader()
    return [json.loads(e.body) for e in seat.records.entries if e.kind == "record"]


async def test_every_version_of_a_training_is_replicated_with_what_the_ledger_says(tmp_path):
    async with voting(tmp_path) as w:
        await w.train(epochs=3)
        told = [r for r in records(w) if r["version"] != r["parent"]]
        assert [r["version"] for r in told] == sorted(set(await versions(w)))
        for entry, record in zip(await w.ledger("version"), told, strict=True):
            (replicated,) = record["entries"]
            assert replicated["weights_digest"] == entry["weights_digest"]
            assert replicated["contributors"] == entry["contributors"]
        assert w.group.applied.version == w.committed.version


async def test_the_weights_are_those_of_the_same_training_under_another_mode(tmp_path):
    digests = []
    for mode in ("raft", "proof-of-learning"):
        async with running(tmp_path / mode, 3, init={"consensus": mode}) as w:
            await w.train(epochs=3)
            digests.append([entry["weights_digest"] for entry in await w.ledger("version")])
    assert digests[0] == digests[1]


async def test_an_entry_that_is_too_long_is_replicated_by_the_digests_of_its_lists(tmp_path):
    async with voting(tmp_path) as w:
        many = [{"slot": f"worker-{n}", "update_digest": "d" * 64} for n in range(1000)]
        entry = {"kind": "version", "cohort": "c0", "contributors": many, "evidence": {"n": 1.0}}
        await agree(w.cluster, 1, {}, [entry])
        (told,) = records(w)[-1]["entries"]
        assert told["cohort"] == "c0"
        assert told["contributors"] == json_digest(many)
        assert told["evidence"] == json_digest({"n": 1.0})


async def test_no_other_mode_has_voters(tmp_path):
    async with running(tmp_path, 3) as w:
        assert voters_of(w.cluster) is None
        await agree(w.cluster, 1, {}, [])
        await await_majority(w.cluster)
        assert await cannot_decide(w.cluster) is None
        await w.train()
        assert await w.engine.context.store.voters(w.cluster_id) == {}


async def test_without_a_majority_no_version_becomes_visible_and_the_training_fails(tmp_path):
    async with voting(tmp_path, 3, ports=HASTY) as w:
        await w.train(epochs=2)
        before = w.committed
        w.group.network.passes = lambda message: False
        training = await w.train(epochs=2)
        assert training.status == "failed"
        assert "consensus_unavailable: raft cannot commit" in training.error
        assert w.committed is before
        w.group.network.passes = lambda message: True
        training = await w.train(epochs=2)
        assert training.status == "completed"
        assert w.committed.version > before.version
        assert await versions(w) == sorted(set(await versions(w)))


async def test_a_training_that_could_commit_nothing_is_refused_before_it_begins(tmp_path):
    async with voting(tmp_path, 3) as w:
        await commit(w, 1)
        await w.kill("worker-1")
        await w.kill("worker-2")
        began_s = w.cluster.clock()
        with pytest.raises(ConsensusUnavailable, match="1 of 3 voters are alive and 2 are needed"):
            await w.engine.train(w.train_request(epochs=2))
        assert w.cluster.clock() - began_s < 5.0
        assert not w.cluster.state.trainings


async def test_a_training_waits_at_the_boundary_for_a_majority_and_then_fails(tmp_path):
    async with voting(tmp_path, 3, ports=HASTY) as w:
        await commit(w, 1)
        await w.engine.train(w.train_request(epochs=2))
        w.cluster.run.at_next_boundary(lambda: _lose_two(w))
        await w.ended()
        assert "1 of 3 voters are alive" in await cannot_decide(w.cluster)
        training = w.cluster.state.latest_training
        assert training.status == "failed"
        assert "1 of 3 voters are alive and 2 are needed" in training.error
        with pytest.raises(ConsensusUnavailable):
            await await_majority(w.cluster)


async def test_predictions_go_on_without_a_majority_and_say_so(tmp_path):
    async with voting(tmp_path, 3) as w:
        await w.train()
        assert not (await w.predict()).stale
        await w.kill("worker-1")
        await w.kill("worker-2")
        reply = await w.predict()
        assert reply.stale
        assert reply.model_version == w.committed.version
        assert any("1 of 3 voters are alive" in warning for warning in reply.warnings)


async def test_a_stopped_training_does_not_wait_for_a_majority(tmp_path):
    async with voting(tmp_path, 3) as w:
        await commit(w, 1)
        await w.engine.train(w.train_request(epochs=2))
        w.cluster.run.at_next_boundary(lambda: _lose_two(w))
        began_s = w.cluster.clock()
        w.cluster.run.stop()
        await w.ended()
        assert w.cluster.clock() - began_s < 5.0
        assert w.cluster.state.latest_training.status == "stopped"


async def test_a_removed_node_gives_up_its_vote_first(tmp_path):
    from flow_nexus_neural.engine.nodes.removal import remove_node

    async with voting(tmp_path, 5) as w:
        await commit(w, 1)
        for name in ("worker-4", "worker-3", "worker-2"):
            removal = await remove_node(w.cluster, name)
            assert not any("voter" in warning for warning in removal.warnings)
        assert w.group.network.voters() == ("worker-0",)
        await commit(w, 2)
        assert led_by(w) == "worker-0"


async def test_a_node_is_removed_without_a_majority_and_the_reply_says_what_that_costs(tmp_path):
    from flow_nexus_neural.engine.nodes.removal import remove_node

    async with voting(tmp_path, 3) as w:
        await commit(w, 1)
        await w.kill("worker-1")
        await w.kill("worker-2")
        removal = await remove_node(w.cluster, "worker-0")
        assert any("still counted as a voter" in warning for warning in removal.warnings)


async def test_that_voters_cannot_be_read_is_a_reason_and_no_failure(tmp_path, monkeypatch):
    async with voting(tmp_path) as w:

        async def voters(self, cluster_id):
            raise StoreUnavailable("disk I/O error")

        monkeypatch.setattr(type(w.cluster.context.store), "voters", voters)
        w.group._loaded = False
        assert "disk I/O error" in await cannot_decide(w.cluster)
        assert (await raft_report(w.cluster))["available"] is False
