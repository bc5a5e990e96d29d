"""What the trading classes compute by themselves, without a server."""

import sys
from itertools import pairwise
from pathlib import Path

import anyio
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "client_examples"))

from client import ToolFailed
from console import ProgressLine
from trading import (
    DistributedInferenceEngine,
    FederatedTradingLearning,
    NeuralClusterMonitor,
    SyntheticMarket,
    inference,
)
from trading.trader import NODE_GROUPS

HEALTHY = {
    "active_nodes": 11,
    "total_nodes": 11,
    "avg_latency": None,
    "error_rate": None,
    "memory_usage": None,
}


@pytest.fixture
def engine():
    return DistributedInferenceEngine(None, "dnc_0", SyntheticMarket(seed=1))


def test_percentiles_are_members_of_the_sample(engine):
    stats = engine.calculate_stats([5.0, 1.0, 3.0, 2.0, 4.0])
    assert stats == {"mean": 3.0, "median": 3.0, "p95": 5.0, "p99": 5.0, "min": 1.0, "max": 5.0}


def test_statistics_of_nothing_are_not_measured(engine):
    assert set(engine.calculate_stats([]).values()) == {None}


def test_the_better_node_gains_weight_and_no_weight_falls_below_its_floor(engine):
    for _ in range(500):
        engine.update_ensemble_weights({"node_predictions": {"good": 0.9, "bad": 0.2}}, expected=1)
    assert engine.ensemble_weights == {"good": 1.0, "bad": 0.1}


@pytest.mark.parametrize(
    ("value", "confidence", "action"),
    [
        (0.9, 0.8, "BUY"),
        (0.1, 0.8, "SELL"),
        (0.9, 0.6, "HOLD"),
        (0.5, 0.9, "HOLD"),
        (0.9, None, "HOLD"),
    ],
)
def test_a_signal_needs_a_clear_value_and_confidence(engine, value, confidence, action):
    reply = {"prediction": value, "confidence": confidence, "consensus": 1, "node_agreement": 1}
    assert engine.interpret_prediction(reply).action == action


def test_a_cached_signal_is_acted_on_while_it_is_fresh_and_confident(engine, monkeypatch):
    now_s = [100.0]
    monkeypatch.setattr(inference.time, "monotonic", lambda: now_s[0])
    for symbol, confidence in (("BTC", 0.8), ("ETH", 0.6), ("SOL", None)):
        reply = {"prediction": 0.9, "confidence": confidence, "consensus": 1, "node_agreement": 1}
        engine.cache_prediction(symbol, engine.interpret_prediction(reply), reply)
    cached = engine.prediction_cache
    assert {symbol: one.is_valid for symbol, one in cached.items()} == {
        "BTC": True,
        "ETH": False,
        "SOL": False,
    }
    now_s[0] = 105.1
    assert not cached["BTC"].is_valid


def test_a_refused_prediction_is_recorded_and_the_pipeline_goes_on(engine):
    class Refusing:
        async def call(self, tool, **arguments):
            raise ToolFailed("overloaded: later. wait.")

    engine.server = Refusing()
    assert anyio.run(engine.process_live_inference, "BTC") is None
    assert engine.failures == ["overloaded: later. wait."]
    assert engine.get_performance_report()["total_predictions"] == 0


def test_a_health_check_without_an_answer_is_remembered_and_so_is_a_failed_recovery():
    class Refusing:
        async def call(self, tool, **arguments):
            raise ToolFailed(f"{tool} failed")

    monitor = NeuralClusterMonitor(Refusing(), "dnc_0")
    assert anyio.run(monitor.perform_health_check) is None
    node = {"id": "node_1", "role": "worker", "model_size": "base", "capabilities": []}
    assert anyio.run(monitor.recover_failed_node, node) is None
    assert [(one.node_id, one.error) for one in monitor.failure_history] == [
        (None, "neural_cluster_status failed"),
        ("node_1", "neural_node_deploy failed"),
    ]


def test_one_dead_node_of_eleven_hardly_moves_the_health_score():
    monitor = NeuralClusterMonitor(None, "dnc_0")
    assert monitor.calculate_health_score(HEALTHY) == 1.0
    assert monitor.calculate_health_score(HEALTHY | {"active_nodes": 10}) == pytest.approx(
        0.9773, abs=1e-4
    )
    assert monitor.calculate_health_score(HEALTHY | {"avg_latency": 500.0}) == 0.875


def test_nodes_that_agree_are_consistent_and_others_are_less():
    learning = FederatedTradingLearning(None, "dnc_0")
    agree = {"node_predictions": {"a": [0.2, 0.8], "b": [0.2, 0.8]}}
    differ = {"node_predictions": {"a": [0.0, 0.0], "b": [1.0, 1.0]}}
    assert learning.calculate_model_consistency(agree) == 1.0
    assert learning.calculate_model_consistency(differ) == 0.8
    assert learning.calculate_model_consistency({"node_predictions": None}) == 1.0


@pytest.mark.parametrize(("loss", "shown"), [(0.51234, "0.5123"), (None, "not measured")])
def test_the_progress_line_shows_a_validation_loss_only_where_there_is_one(capsys, loss, shown):
    learning = FederatedTradingLearning(None, "dnc_0")
    progress = {"current_round": 1, "total_rounds": 2, "train_loss": 0.25, "val_loss": loss}
    status = {
        "training": progress,
        "global_accuracy": 0.75,
        "global_loss": 0.5,
        "active_nodes": 3,
        "communication_mb": 1.25,
        "communication_bytes": 1_250_000,
    }
    learning._remember(status, ProgressLine())
    line = f"round 1/2 train loss 0.2500 validation loss {shown} accuracy 0.750 nodes 3 1.2 MB"
    assert capsys.readouterr().out.strip() == line
    assert learning.training_history[0]["loss"] == 0.5


def test_accuracy_compares_directions():
    learning = FederatedTradingLearning(None, "dnc_0")
    assert learning.calculate_accuracy([0.9, 0.2, 0.6], [True, False, False]) == pytest.approx(
        2 / 3
    )


def test_the_synthetic_feed_repeats_with_its_seed_and_tells_the_next_hour():
    market, again, other = (SyntheticMarket(seed=seed) for seed in (3, 3, 4))
    ticks = [market.tick("BTC") for _ in range(20)]
    assert ticks == [again.tick("BTC") for _ in range(20)]
    assert ticks[0] != other.tick("BTC")
    for now, later in pairwise(ticks):
        assert len(now.record["features"]) == 50
        assert now.record["features"][1:] == later.record["features"][:-1]
        assert now.went_up == (later.record["features"][-1] > 0)
        assert np.sign(np.log(later.record["price"] / now.record["price"])) == np.sign(
            later.record["features"][-1]
        )


def test_the_trader_deploys_eleven_nodes_in_four_roles():
    assert sum(group.count for group in NODE_GROUPS) == 11
    assert {group.role for group in NODE_GROUPS} == {
        "parameter_server",
        "worker",
        "aggregator",
        "validator",
    }
