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


def show_inference(system: TradingSystem) -> None:
    """Print latencies as client and server measured them, and the health beside."""
    report = system.inference.get_performance_report()
    evidence("predictions", f"{report['total_predictions']}, failed {report['failed_predictions']}")
    for place, key in (("client", "latency"), ("server", "server_latency")):
        stats = report[key]
        values = " ".join(f"{name} {stats[name]:.1f}" for name in ("median", "p95", "p99"))
        evidence(f"milliseconds, {place}", values)
    check = system.monitor.health_checks[-1]
    evidence("health", f"{check.score:.3f} of 1, {check.active_nodes} nodes active")
