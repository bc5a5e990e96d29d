"""How far a training is, and what of it is reported."""

import pytest

from flow_nexus_neural.engine.reports import Division, ShardInfo
from flow_nexus_neural.engine.state.training_record import Training
from tests.unit.engine.building import point, training


@pytest.mark.parametrize(
    ("status", "rounds_done", "expected"),
    [
        ("running", 0, 0.0),
        ("running", 4, 40.0),
        ("running", 10, 99.99),
        ("failed", 10, 99.99),
        ("stopped", 4, 40.0),
        ("completed", 10, 100.0),
        ("early_stopped", 4, 100.0),
    ],
)
def test_only_what_ended_well_is_at_100_percent(status, rounds_done, expected):
    made = training(seconds=[1.0] * rounds_done, status=status)
    assert made.percent == pytest.approx(expected)


@pytest.mark.parametrize(
    ("losses", "patience", "stops"),
    [
        ([0.5, 0.5, 0.5], 2, True),
        ([0.5, 0.5, 0.5], 3, False),
        ([0.5, 0.5, 0.5], 0, False),
        ([0.5, 0.5, 0.4], 1, False),
        ([0.5] * 10, 2, False),  # all its rounds are done: it is complete
    ],
)
def test_a_training_stops_when_its_patience_is_exhausted_before_its_last_round(
    losses, patience, stops
):
    made = training(seconds=[1.0] * len(losses), patience=patience)
    made.history = [point(number, val_loss=loss) for number, loss in enumerate(losses, 1)]
    assert made.stops_early is stops


def test_progress_estimates_from_measured_rounds_only():
    fresh = training().progress()
    assert fresh.seconds_per_round is fresh.eta_seconds is fresh.train_loss is fresh.best_round
    assert fresh.best_round is None
    running = training(seconds=[1.0, 3.0, 2.0]).progress()
    assert (running.seconds_per_round, running.eta_seconds) == (2.0, 14.0)
    assert (running.current_round, running.current_epoch, running.total_epochs) == (3, 6, 20)
    assert running.evidence.steps == 15
    assert training(seconds=[1.0], status="failed").progress().eta_seconds is None


def test_the_seconds_of_a_round_count_until_its_version_answers():
    made = training(seconds=[1.0, 1.0], round_s=[1.5, 1.7, 1.6])
    assert made.progress().seconds_per_round == 1.6


def test_two_trainings_share_no_history():
    one, other = (Training("t", 0, training().config, "then") for _ in range(2))
    one.commit_round(one.advance.after(point(1), 1, "d"), point(1), 1.0)
    assert (other.history, other.round_s) == ([], [])


def test_an_interrupted_training_says_how_far_it_came_and_what_to_call():
    made = training(rounds=10, seconds=[1.0, 1.0])
    made.interrupt("then", 2)
    assert (made.status, made.ended_at) == ("stopped", "then")
    assert "after round 2 of 10" in made.error
    assert "version 2 stays in force" in made.error
    assert "neural_train_distributed" in made.error


def test_an_interrupted_training_names_no_version_where_there_is_none():
    made = training(rounds=10)
    made.interrupt("then", None)
    assert "no version was committed" in made.error
    assert "in force" not in made.error
    assert "neural_train_distributed" in made.error


def test_an_end_that_was_not_recorded_does_not_hide_why_it_ended():
    made = training()
    made.end("failed", "no workers", "then")
    made.note_unrecorded_end("disk full")
    assert made.error == "no workers"
    other = training()
    other.end("completed", None, "then")
    other.note_unrecorded_end("disk full")
    assert "disk full" in other.error


def test_progress_tells_the_method_with_its_options_and_the_shards_only_in_full():
    made = training()
    assert made.progress().aggregation == {"method": made.config.aggregation_method}
    assert (made.progress().heterogeneity, made.progress(full=True).shards) == (None, None)
    shard = ShardInfo(slot="worker-0", rows=3, symbols=[], labels={"a": 1.0})
    made.note_division(Division(heterogeneity=0.25, shards=[shard]))
    assert (made.progress().heterogeneity, made.progress().shards) == (0.25, None)
    assert made.progress(full=True).shards == [shard]
    options = {"server_learning_rate": 0.1, "server_momentum": 0.0}
    changed = {"aggregation_method": "fedadam", **options}
    made.config = made.config.model_copy(update=changed)
    assert made.progress().aggregation == {"method": "fedadam", **options}
