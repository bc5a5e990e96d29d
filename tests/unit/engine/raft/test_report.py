from flow_nexus_neural.engine.raft.report import raft_report
from flow_nexus_neural.engine.requests import TerminateRequest
from tests.unit.engine.raft.voting import commit, led_by, voting
from tests.unit.engine.running import running


async def test_before_anything_is_decided_nothing_is_known_but_who_would_vote(tmp_path):
    async with voting(tmp_path, 4) as w:
        told = await raft_report(w.cluster)
        assert (told["available"], told["reason"]) == (True, None)
        raft = told["raft"]
        assert [voter["slot"] for voter in raft["voters"]] == ["worker-0", "worker-1", "worker-2"]
        for name in ("term", "leader", "commit_index", "applied_index", "commit_ms"):
            assert raft[name] is None
        assert (raft["elections"], raft["f_tolerated"]) == (0, 1)
        assert raft["durability"] == "one disk"


async def test_a_leader_knows_how_far_every_voter_is(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        slow = next(n for n in w.group.network.voters() if n != led_by(w))
        w.group.network.passes = lambda m: slow not in (m.sender, m.to)
        await commit(w, 2)
        await commit(w, 3)
        raft = (await raft_report(w.cluster))["raft"]
        by_slot = {voter["slot"]: voter for voter in raft["voters"]}
        assert by_slot[led_by(w)]["role"] == "leader"
        assert by_slot[led_by(w)]["lag"] == 0
        assert by_slot[slow]["lag"] == 2
        assert raft["commit_index"] == raft["applied_index"] == by_slot[led_by(w)]["match"]
        assert raft["term"] == w.group.network.leader().report.term


async def test_without_a_majority_it_says_why(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1)
        term = (await raft_report(w.cluster))["raft"]["term"]
        await w.kill("worker-0")
        await w.kill("worker-1")
        told = await raft_report(w.cluster)
        assert told["available"] is False
        assert "1 of 3 voters are alive" in told["reason"]
        assert told["raft"]["term"] == term
        alive = {voter["slot"]: voter["alive"] for voter in told["raft"]["voters"]}
        assert alive == {"worker-0": False, "worker-1": False, "worker-2": True}


async def test_what_a_robust_rule_saw_stands_beside_the_voters(tmp_path):
    async with voting(tmp_path, 5) as w:
        await w.train(aggregation_method="auto", federated=True)
        report = (await w.status()).consensus_report
        assert report["raft"]["leader"] == led_by(w)
        assert report["byzantine"]["rule_last"]


async def test_it_stands_in_the_status_under_raft_only(tmp_path):
    async with voting(tmp_path / "raft") as w:
        await w.train()
        status = await w.status()
        assert status.consensus_report["raft"]["leader"] == led_by(w)
        assert (status.guarantees.n, status.guarantees.f_tolerated) == (3, 1)
        assert status.guarantees.holds
        await w.kill("worker-0")
        await w.kill("worker-1")
        status = await w.status()
        assert status.consensus_report["available"] is False
        assert not status.guarantees.holds
        await w.engine.terminate(TerminateRequest(cluster_id=w.cluster_id))
        status = await w.status()
        assert status.consensus_report["reason"] == "the cluster has ended"
    async with running(tmp_path / "other", 3) as w:
        assert (await w.status()).consensus_report is None
        assert await raft_report(w.cluster) is None
