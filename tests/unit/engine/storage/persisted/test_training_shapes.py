"""What is stored of a training comes back as it was."""

from flow_nexus_neural.engine.storage.persisted.reading import read
from flow_nexus_neural.engine.storage.persisted.training_shapes import (
    StoredCost,
    StoredProgress,
    StoredProofs,
    StoredRound,
    StoredScrutiny,
    StoredSeen,
    StoredStanding,
)


def test_what_a_rule_saw_of_its_workers_is_kept_with_the_progress():
    seen = StoredScrutiny(rules={"auto": 2}, workers={"worker-1": StoredSeen(updates=2, far=1)})
    progress = StoredProgress(rounds_done=2, scrutiny=seen)
    assert read(StoredProgress, progress.to_json()) == progress


def test_a_round_that_measured_nothing_says_null():
    found = read(StoredRound, {"round": 3})
    assert (found.round, found.accuracy, found.train_loss) == (3, None, None)


def test_what_proofs_showed_is_kept_with_the_progress_and_empty_where_it_was_not_stored():
    proofs = StoredProofs(
        verified_rounds=2,
        detection=0.1,
        cost=StoredCost(training_s=1.5, updates=6),
        workers={"worker-1": StoredStanding(segments=20, strikes=1, last_reason="late")},
    )
    progress = StoredProgress(rounds_done=2, proofs=proofs)
    assert read(StoredProgress, progress.to_json()) == progress
    assert read(StoredProgress, {"rounds_done": 2}).proofs == StoredProofs()
