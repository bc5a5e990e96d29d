"""The trading system of the examples: five classes that each do one thing with a cluster."""

from trading.federated import FederatedTradingLearning
from trading.inference import DistributedInferenceEngine
from trading.monitor import NeuralClusterMonitor
from trading.synthetic_market import SyntheticMarket
from trading.system import TradingSystem
from trading.trader import DistributedNeuralTrader

__all__ = [
    "DistributedInferenceEngine",
    "DistributedNeuralTrader",
    "FederatedTradingLearning",
    "NeuralClusterMonitor",
    "SyntheticMarket",
    "TradingSystem",
]
