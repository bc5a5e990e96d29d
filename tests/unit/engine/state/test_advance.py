"""How far a training is after a round: the best round, its steps, and what the next round rests on."""

from flow_nexus_neural.engine.state.advance import Advance
from flow_nexus_neural.engine.state.continuation import Continuation, StateFiles
from tests.unit.engine.building import point, training


def test_the_best_round_is_the_first_with_the_lowest_validation_loss():
    made = training()
    for number, loss in enumerate((0.9, 0.4, None, 0.4, 0.6), 1):
        made.advance = made.advance.after(point(number, val_loss=loss), 1, "d")
    assert (made.advance.best_round, made.advance.best_loss) == (2, 0.4)
    assert (made.advance.rounds_done, made.advance.val_loss) == (5, 0.6)


def test_a_training_without_validation_rows_has_no_best_round():
    after = Advance()
    for number in (1, 2):
        after = after.after(point(number, val_loss=None), 3, "d")
    assert (after.best_round, after.best_loss, after.rounds_done) == (None, None, 2)


def test_a_round_adds_its_steps_and_keeps_the_digest_of_the_start():
    made = training()
    made.begin_from("start")
    before = made.advance
    made.commit_round(before.after(point(1), 7, "end"), point(1), 2.5)
    assert (made.advance.steps, made.advance.digest_before) == (7, "start")
    assert (made.advance.digest_after, made.round_s) == ("end", [2.5])
    assert (
        before.steps == 0
    )  # a value that is replaced, so that a failed commit leaves the former one


def test_the_best_round_s_files_are_kept_until_the_last_round_is_the_best():
    files = StateFiles("d" * 64, "b" * 64, None, None, 1)
    known = Continuation(dealt=("worker-0",), best={"c0": files})
    first = Advance().after(point(1, val_loss=0.4), 1, "d")
    worse = first.after(point(2, val_loss=0.6), 1, "d").going_on_from(known)
    assert worse.continuation == known
    better = worse.after(point(3, val_loss=0.1), 1, "d").going_on_from(known)
    assert (better.continuation.best, better.continuation.dealt) == ({}, ("worker-0",))
