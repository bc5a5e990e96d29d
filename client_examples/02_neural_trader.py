"""Eleven nodes in four roles, each a confined process of its own, connected as a tree."""

import anyio

from client import neural_server
from console import evidence, flags, heading
from trading import DistributedNeuralTrader


async def main(seed: int) -> None:
    """Build the cluster and show what was built."""
    async with neural_server() as server:
        trader = DistributedNeuralTrader(server, seed=seed)
        heading("init, deploy, connect")
        await trader.initialize_cluster()
        show_cluster(trader)

        heading("what the status says")
        status = await server.call("neural_cluster_status", cluster_id=trader.cluster_id)
        evidence("nodes", f"{status['active_nodes']} active of {status['total_nodes']}")
        evidence("training", status["training_status"])
        evidence("accuracy before training", status["global_accuracy"])
        evidence("guarantees hold", status["guarantees"]["holds"])

        heading("terminate")
        ended = await server.call("neural_cluster_terminate", cluster_id=trader.cluster_id)
        evidence("stopped", f"{ended['nodes_terminated']} nodes")


def show_cluster(trader: DistributedNeuralTrader) -> None:
    """Print every node and the shape of the graph."""
    evidence("cluster", trader.cluster_id)
    for slot, node in trader.nodes.items():
        types = "-".join(layer["type"] for layer in node["layers"])
        evidence(slot, f"{node['id']} pid {node['pid']} {node['isolation']['level']} {types}")
    connection = trader.connection
    evidence("topology", connection["topology"])
    evidence("edges", f"{connection['connections']} diameter {connection['diameter']}")


if __name__ == "__main__":
    anyio.run(main, flags(__doc__, seed=1).seed)
