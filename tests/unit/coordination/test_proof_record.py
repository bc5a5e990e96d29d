"""What proofs showed, as the ledger has it of one exchange and the status of a training."""

import pytest

from flow_nexus_neural.coordination.consensus.proof_of_learning import (
    VALID,
    Cost,
    Verdict,
    challenge,
    proofs_root,
)
from flow_nexus_neural.coordination.proof_record import ProofRecord, ProvedExchange, ProvedUpdate

BEACON = "b" * 64
WRONG = Verdict("invalid", "segment 4 of 10 gives another state")


def update(slot, verdict=VALID, *, n=10, k=1, verifier="validator-0"):
    head = f"{int(slot[-1]):064x}"
    return ProvedUpdate(
        slot=slot,
        node_id=f"node-{slot}",
        head=head,
        n_segments=n,
        challenged=challenge(BEACON, head, n, k),
        verified=k if verdict is VALID else 0,
        verdict=verdict,
        verifiers=(verifier,),
    )


def exchange(*updates):
    cost = Cost(10.0, 0.5, 0.75, challenged=len(updates), updates=len(updates))
    return ProvedExchange(BEACON, updates, cost, seconds=2.0)


def test_the_ledger_has_the_beacon_the_root_and_every_verdict_of_a_network_group():
    entry = exchange(update("worker-0"), update("worker-1", WRONG), update("worker-2")).to_json(
        {"worker-0", "worker-1"}
    )
    heads = {one["slot"]: one["head"] for one in entry["verdicts"]}
    assert [*heads] == ["worker-0", "worker-1"]
    assert entry["proofs_root"] == proofs_root(heads)
    for one in entry["verdicts"]:
        drawn = challenge(entry["beacon"], one["head"], one["segments"], 1)
        assert one["challenged"] == list(drawn)  # anybody can repeat the draw
    assert [one["verdict"] for one in entry["verdicts"]] == ["valid", "invalid"]
    assert entry["verdicts"][1]["reason"] == WRONG.reason


def test_an_exchange_concerns_the_groups_whose_workers_it_had():
    assert exchange(update("worker-0")).concerns(["worker-0", "worker-7"])
    assert not exchange(update("worker-0")).concerns(["worker-1"])


def test_counts_add_up_over_exchanges_and_a_failed_try_verifies_no_round():
    record = ProofRecord().after([exchange(update("worker-0"))], committed=True)
    record = record.after(
        [exchange(update("worker-0"), update("worker-1", WRONG))], committed=False
    )
    record = record.after([], committed=True)
    report = record.report()
    assert (report["verified_rounds"], report["excluded_updates"]) == (1, 1)
    assert report["verification_seconds"] == 1.5
    assert report["cost_share"] == pytest.approx(0.125)
    assert report["wall_seconds"] == 4.0
    assert record.of_worker("worker-0")["verified"] == 2
    assert record.of_worker("worker-1") == {
        "segments": 10,
        "challenged": 1,
        "verified": 0,
        "failed": 1,
        "unavailable": 0,
        "strikes": 0,
        "last_reason": WRONG.reason,
    }


def test_the_probability_is_that_of_the_update_in_which_a_fake_is_found_least():
    found = exchange(update("worker-0", n=4, k=2), update("worker-1", n=10, k=1))
    record = ProofRecord().after([found], committed=True)
    assert record.report()["detection_probability_per_round"] == pytest.approx(0.1)


def test_everybody_who_saw_a_shard_is_named_once():
    found = exchange(update("worker-0", verifier="validator-1"), update("worker-1"))
    record = ProofRecord().after([found, found], committed=True)
    assert record.report()["shard_visible_to"] == ["validator-0", "validator-1"]
    assert record.report()["verifier"] == "validator-0, validator-1"


def test_a_training_without_proofs_has_no_report():
    assert ProofRecord().report() is None
    assert ProofRecord().of_worker("worker-0") is None
