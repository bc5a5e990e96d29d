import itertools

import pytest

from flow_nexus_neural.engine.operations.status import poll_after_ms, thinned
from flow_nexus_neural.engine.reports import HistoryPoint, TrainingConfig
from flow_nexus_neural.engine.state.cluster import Cluster, ClusterSpec
from flow_nexus_neural.engine.state.training_record import Training


def point(number, seconds=1.0, val_loss=0.5):
    return HistoryPoint(
        round=number, train_loss=0.5, val_loss=val_loss, accuracy=None, bytes=1, seconds=seconds
    )


def training(rounds=10, seconds=(), **more):
    config = TrainingConfig(
        epochs=rounds,
        batch_size=8,
        learning_rate=0.1,
        optimizer="adam",
        federated=True,
        rounds=rounds,
        local_epochs=2,
        clients_per_round=1,
        min_nodes_per_round=1,
        aggregation_method="federated_averaging",
        partition="iid",
        seed=1,
        strategy="federated",
        sync_every_steps=None,
    )
    made = Training("trn_1", 0, config, "2026-01-01T00:00:00Z", **more)
    for number, one in enumerate(seconds, 1):
        made.history.append(point(number, one))
        made.advance = made.advance.after(made.history[-1], 5, f"d{number}")
    return made


@pytest.mark.parametrize("n", [0, 1, 19, 20, 21, 39, 40, 1000])
def test_a_history_is_thinned_evenly_and_keeps_both_ends(n):
    history = [point(number) for number in range(1, n + 1)]
    found = [p.round for p in thinned(history)]
    assert len(found) == min(n, 20)
    assert found == sorted(set(found))
    if n:
        assert (found[0], found[-1]) == (1, n)
    gaps = {after - before for before, after in itertools.pairwise(found)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [((), 1000), ((2.0,), 2000), ((0.01,), 500), ((60.0,), 10_000), ((1.0, 9.0, 2.0), 2000)],
)
def test_it_is_worth_asking_again_after_about_a_round(seconds, expected):
    assert poll_after_ms(training(seconds=seconds)) == expected
    assert poll_after_ms(None) == 1000


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


def test_uptime_stands_still_once_a_cluster_is_terminated():
    now = [100.0]
    spec = ClusterSpec(
        "c", "mesh", "cnn", "raft", wasm_optimization=False, daa_enabled=False, seed=1
    )
    cluster = Cluster("dnc_1", spec, "2026-01-01T00:00:00Z", lambda: now[0], created_at_s=90.0)
    assert cluster.uptime_s() == 10.0
    cluster.final = {"uptime_seconds": 10}
    now[0] = 500.0
    assert cluster.uptime_s() == 10.0


def test_the_best_round_is_the_first_with_the_lowest_validation_loss():
    made = training()
    for number, loss in enumerate((0.9, 0.4, None, 0.4, 0.6), 1):
        made.advance = made.advance.after(point(number, val_loss=loss), 1, "d")
    assert (made.advance.best_round, made.advance.best_loss) == (2, 0.4)
    assert (made.advance.rounds_done, made.advance.val_loss) == (5, 0.6)


def test_a_training_reads_back_as_it_was():
    made = training(seconds=[1.0, 2.0], status="failed", error="why", ended_at="then")
    again = Training.from_row(made.to_row("c"), made.history)
    assert again == made
