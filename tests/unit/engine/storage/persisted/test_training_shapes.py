"""What is stored of a training comes back as it was."""

from flow_nexus_neural.engine.storage.persisted.reading import read
from flow_nexus_neural.engine.storage.persisted.training_shapes import (
    StoredCost,
    StoredGossip,
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


def test_how_far_apart_workers_were_is_kept_and_an_older_row_says_nothing_of_it():
    seen = StoredGossip(rounds=3, network="c0", consensus_distance=0.02, doubled=(1, 2))
    progress = StoredProgress(rounds_done=3, gossip=seen)
    assert read(StoredProgress, progress.to_json()) == progress
    assert read(StoredProgress, {"rounds_done": 3}).gossip == StoredGossip()


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


def test_the_division_of_rows_is_kept_and_missing_in_older_rows():
    division = {"heterogeneity": 0.5, "shards": []}
    progress = StoredProgress(division=division)
    assert read(StoredProgress, progress.to_json()).division == division
    assert read(StoredProgress, {"rounds_done": 1}).division is None
