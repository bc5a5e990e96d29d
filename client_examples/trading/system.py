"""The complete system: a cluster that is built, trained, served, watched and taken down."""

import anyio

from client import Neural, Reply
from console import evidence, number
from trading.federated import FederatedTradingLearning
from trading.inference import DistributedInferenceEngine
from trading.monitor import NeuralClusterMonitor
from trading.synthetic_market import SyntheticMarket
from trading.trader import DistributedNeuralTrader

# A third of its usual hours: the networks of the workers are large, and a demonstration should take less than
# three minutes on two cores. With so few hours and rounds they need not beat the majority class; the result
# is shown as it is. What the default network reaches on all hours is for `bench/defaults.py` to say.
DATASET = "crypto_market_historical_data#rows=2000"


class TradingSystem:
    """Five parts on one cluster. Construct with `create`."""

    def __init__(self, server: Neural, trader: DistributedNeuralTrader, cluster_id: str) -> None:
        self.server = server
        self.cluster_id = cluster_id
        self.trader = trader
        self.federated = trader.federated or FederatedTradingLearning(server, cluster_id)
        self.inference = DistributedInferenceEngine(server, cluster_id, SyntheticMarket(seed=23))
        self.monitor = NeuralClusterMonitor(server, cluster_id)

    @classmethod
    async def create(cls, server: Neural, *, seed: int | None = None) -> "TradingSystem":
        """Build the cluster of eleven nodes."""
        trader = DistributedNeuralTrader(server, seed=seed)
        return cls(server, trader, await trader.initialize_cluster())

    async def train(self, epochs: int, dataset: str = DATASET) -> Reply:
        """Train federated to the end; return the reply that started it."""
        return await self.federated.start_federated_training(dataset, epochs=epochs)

    async def run(self, cycles: int) -> None:
        """Predict `cycles` times, with health checks and decisions beside it."""
        stop = anyio.Event()
        async with anyio.create_task_group() as beside:
            beside.start_soon(self.monitor.start_health_monitoring, stop)
            beside.start_soon(self._decide_until, stop)
            try:
                await self.inference.start_inference_pipeline(cycles)
            finally:
                stop.set()

    async def terminate(self) -> Reply:
        """Stop every node."""
        return await self.server.call("neural_cluster_terminate", cluster_id=self.cluster_id)

    async def _decide_until(self, stop: anyio.Event, interval_s: float = 1.0) -> None:
        while not stop.is_set():
            with anyio.move_on_after(interval_s):
                await stop.wait()
            for symbol, cached in self.inference.prediction_cache.items():
                held = "" if cached.is_valid else " (confidence too low to act)"
                evidence(
                    f"{symbol} (synthetic)",
                    f"{cached.signal.action} P(up) {number(cached.signal.value, 3)}"
                    f" confidence {number(cached.signal.confidence, 3)}{held}",
                )
