"""Live inference: calibrate the ensemble, predict in a fixed cycle, report latencies."""

import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from client import Neural, Reply, ToolFailed
from trading.synthetic_market import SyntheticMarket, Tick

MAX_METRICS = 1000
CACHE_TTL_S = 5.0


@dataclass(frozen=True)
class Signal:
    """What a prediction means to a trader."""

    action: str
    confidence: float | None
    value: float
    consensus: float | None
    node_agreement: float | None


@dataclass(frozen=True)
class CachedPrediction:
    """A signal and when it was made."""

    signal: Signal
    prediction: Reply
    made_at_s: float

    @property
    def is_valid(self) -> bool:
        """Fresh, and confident enough to be looked at."""
        fresh = time.monotonic() - self.made_at_s < CACHE_TTL_S
        return fresh and self.signal.confidence is not None and self.signal.confidence > 0.6


class DistributedInferenceEngine:
    """Predicts with one cluster on a synthetic feed and measures what that takes."""

    def __init__(self, server: Neural, cluster_id: str, market: SyntheticMarket) -> None:
        self.server = server
        self.cluster_id = cluster_id
        self.market = market
        self.prediction_cache: dict[str, CachedPrediction] = {}
        self.ensemble_weights: dict[str, float] = {}
        self.latency_ms: list[float] = []
        self.server_latency_ms: list[float] = []
        self.consensus: list[float] = []
        self.right: list[bool] = []
        self.failures: list[str] = []

    async def initialize_inference(self, calibration_hours: int, cycles: int) -> None:
        """Calibrate, then run the pipeline."""
        await self.calibrate_ensemble(calibration_hours)
        await self.start_inference_pipeline(cycles)

    async def calibrate_ensemble(self, hours: int) -> dict[str, float]:
        """Weigh nodes by their errors on hours whose outcome is known."""
        for tick in self.generate_calibration_data(hours):
            prediction = await self.get_node_predictions(tick.record)
            self.update_ensemble_weights(prediction, expected=float(tick.went_up))
        return self.ensemble_weights

    async def get_node_predictions(self, record: Reply) -> Reply:
        """Every node's own prediction, fused with the weights learnt so far."""
        return await self.server.call(
            "neural_predict_distributed",
            cluster_id=self.cluster_id,
            input_data=record,
            aggregation="weighted",
            weights=self.ensemble_weights or None,
        )

    async def start_inference_pipeline(self, cycles: int, interval_s: float = 0.1) -> None:
        """One prediction per interval, symbols in turn. A late cycle delays the next, none overlap."""
        symbols = ("BTC", "ETH")
        for cycle in range(cycles):
            started_s = anyio.current_time()
            await self.process_live_inference(symbols[cycle % len(symbols)])
            await anyio.sleep_until(started_s + interval_s)

    async def process_live_inference(self, symbol: str) -> Signal | None:
        """Predict one hour of the feed; a refused call is recorded, not raised."""
        tick = self.get_current_market_data(symbol)
        started_s = time.perf_counter()
        try:
            prediction = await self.get_distributed_prediction(tick.record)
        except ToolFailed as failure:
            self.failures.append(str(failure))
            return None
        self.update_metrics((time.perf_counter() - started_s) * 1000, prediction, tick)
        signal = self.interpret_prediction(prediction)
        self.cache_prediction(symbol, signal, prediction)
        return signal

    async def get_distributed_prediction(self, record: Reply) -> Reply:
        """The ensemble's prediction of a record."""
        prediction = await self.server.call(
            "neural_predict_distributed",
            cluster_id=self.cluster_id,
            input_data=json.dumps(record),
            aggregation="ensemble",
        )
        return {**prediction, "input_hash": self.hash_input(record)}

    def interpret_prediction(self, prediction: Reply) -> Signal:
        """BUY or SELL only when the value is clear and the confidence high; mostly that means HOLD."""
        confidence, value = prediction["confidence"], prediction["prediction"]
        action = "HOLD"
        if value is not None and confidence is not None and confidence > 0.7:
            action = "BUY" if value > 0.6 else "SELL" if value < 0.4 else "HOLD"
        return Signal(
            action=action,
            confidence=confidence,
            value=0.5 if value is None else float(value),
            consensus=prediction["consensus"],
            node_agreement=prediction["node_agreement"],
        )

    def cache_prediction(self, symbol: str, signal: Signal, prediction: Reply) -> None:
        """Remember the newest signal of a symbol."""
        self.prediction_cache[symbol] = CachedPrediction(signal, prediction, time.monotonic())

    def update_metrics(self, latency_ms: float, prediction: Reply, tick: Tick) -> None:
        """Keep the newest measurements."""
        for values, value in (
            (self.latency_ms, latency_ms),
            (self.server_latency_ms, prediction["latency_ms"]),
            (self.consensus, prediction["consensus"]),
        ):
            if value is not None:  # without a quorum there is no consensus
                values.append(value)
                del values[:-MAX_METRICS]
        if prediction["prediction"] is not None:
            self.right.append((prediction["prediction"] > 0.5) == tick.went_up)
            del self.right[:-MAX_METRICS]

    def get_current_market_data(self, symbol: str) -> Tick:
        """The next synthetic hour of a symbol."""
        return self.market.tick(symbol)

    def generate_calibration_data(self, hours: int) -> list[Tick]:
        """Synthetic hours with known outcomes."""
        return [self.market.tick("BTC" if hour % 2 == 0 else "ETH") for hour in range(hours)]

    def update_ensemble_weights(self, prediction: Reply, expected: float) -> None:
        """Shrink a node's weight by its error, relative to the best node: only ratios matter.

        (A weight that shrinks by every error alone ends at its floor for all nodes.)
        """
        errors = {
            node: abs(value - expected)
            for node, value in (prediction["node_predictions"] or {}).items()
        }
        least = min(errors.values(), default=0.0)
        for node, error in errors.items():
            weight = self.ensemble_weights.get(node, 1.0) * (1 - 0.1 * (error - least))
            self.ensemble_weights[node] = max(weight, 0.1)

    def hash_input(self, record: Reply) -> int:
        """A short checksum of what was asked."""
        return zlib.crc32(json.dumps(record, sort_keys=True).encode())

    def get_performance_report(self) -> dict[str, Any]:
        """Latencies as the client and as the server measured them, consensus, weights, counts."""
        return {
            "latency": self.calculate_stats(self.latency_ms),
            "server_latency": self.calculate_stats(self.server_latency_ms),
            "consensus": self.calculate_stats(self.consensus),
            "node_weights": dict(self.ensemble_weights),
            "total_predictions": len(self.latency_ms),
            "failed_predictions": len(self.failures),
            "direction_accuracy": sum(self.right) / len(self.right) if self.right else None,
        }

    def calculate_stats(self, values: Sequence[float]) -> dict[str, float | None]:
        """Mean, percentiles (nearest rank) and range; all None without a value."""
        if not values:
            return dict.fromkeys(("mean", "median", "p95", "p99", "min", "max"))
        ordered = sorted(values)
        last = len(ordered) - 1
        return {
            "mean": sum(ordered) / len(ordered),
            "median": ordered[round(0.50 * last)],
            "p95": ordered[round(0.95 * last)],
            "p99": ordered[round(0.99 * last)],
            "min": ordered[0],
            "max": ordered[-1],
        }
