"""What the examples print of a cluster and of its accuracy."""

from client import Reply
from console import evidence
from trading.system import TradingSystem


def show_cluster(system: TradingSystem) -> None:
    """Print every node and the graph."""
    evidence("cluster", system.cluster_id)
    for slot, node in system.trader.nodes.items():
        evidence(slot, f"{node['id']} pid {node['pid']} isolation {node['isolation']['level']}")
    evidence("topology", "{topology}, {connections} edges".format(**system.trader.connection))


def show_accuracy(status: Reply) -> None:
    """Print the accuracy on rows that no node trained on."""
    low, high = status["evaluation"]["accuracy_interval"]
    evidence("held-out accuracy", f"{status['global_accuracy']:.3f} (95 %: {low:.3f}-{high:.3f})")
