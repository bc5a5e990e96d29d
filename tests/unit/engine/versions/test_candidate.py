"""What a round adds to the record of its training."""

from flow_nexus_neural.coordination.consensus.proof_of_learning import Cost
from flow_nexus_neural.coordination.proof_record import ProvedExchange
from flow_nexus_neural.engine.state.advance import Advance
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.state.version import model_digest
from flow_nexus_neural.engine.versions.candidate import Candidate
from tests.unit.engine.building import point


def update(slot, steps):
    return Update(slot, None, "d", rows=8, steps=steps, opt_step=steps, loss=0.5, cpu_s=0.1)


def candidate(**more):
    given = {
        "number": 1,
        "networks": {},
        "renewed": frozenset(),
        "updates": [update("worker-0", 3), update("worker-1", 4)],
        "excluded": {"worker-2": "late"},
        "rule": "caf",
        "evidence": {},
        "train_loss": 0.5,
        "began_s": 0.0,
        "bytes_before": 0,
    }
    return Candidate(**given | more)


def test_a_round_counts_the_steps_of_the_updates_that_it_rests_on():
    made = candidate().advanced(Advance(), point(1), {})
    assert (made.rounds_done, made.steps) == (1, 7)
    assert made.digest_after == model_digest({})


def test_what_the_rule_and_the_proofs_saw_goes_with_it():
    distances = {"worker-0": 1.0, "worker-1": 9.0}
    evidence = {"c0": {"rule": "caf", "f": 1, "shortened": [], "distance": distances}}
    proofs = (ProvedExchange("ab", (), Cost(), 0.5),)
    made = candidate(evidence=evidence, proofs=proofs).advanced(Advance(), point(1), {})
    assert made.scrutiny.rules == {"caf": 1}
    assert made.proofs.verified_rounds == 1
    assert candidate().advanced(Advance(), point(1), {}).proofs == Advance().proofs
