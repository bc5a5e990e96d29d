"""SIGKILL a worker's process: predictions go on, and a plain deploy brings the slot back, synced."""

import anyio

from client import Neural, Reply, neural_server
from console import digest, evidence, flags, heading
from killing import kill_node
from trading import NeuralClusterMonitor, SyntheticMarket
from trading.system import DATASET


async def main(epochs: int) -> None:
    """Train three nodes, kill one, predict without it, recover it, predict with it."""
    async with neural_server() as server:
        cluster = await server.call(
            "neural_cluster_init", name="mortal", architecture="cnn", seed=1
        )
        cluster_id = cluster["id"]
        for _ in range(3):
            await server.call("neural_node_deploy", cluster_id=cluster_id)
        await server.call(
            "neural_train_distributed",
            cluster_id=cluster_id,
            dataset=DATASET,
            epochs=epochs,
            federated=True,
        )
        done = {"cluster_id": cluster_id, "until": "done", "wait_seconds": 25}
        while (await server.call("neural_cluster_status", **done))["timed_out"]:
            pass
        record = SyntheticMarket(seed=3).tick("BTC").record

        heading("before")
        before = await predict(server, cluster_id, record)

        heading("SIGKILL of worker-1")
        status = await kill_node(server, cluster_id, "worker-1")
        dead = next(node for node in status["nodes"] if node["slot"] == "worker-1")
        evidence("status", f"{status['status']}, failed nodes {status['failed_nodes']}")
        evidence("worker-1", f"healthy {dead['healthy']}: {dead['last_error']}")
        await predict(server, cluster_id, record)

        heading("recovery")
        monitor = NeuralClusterMonitor(server, cluster_id)
        replacement = await monitor.recover_failed_node(dead)
        if replacement is None:
            raise SystemExit(f"recovery failed: {monitor.failure_history[-1].error}")
        evidence("replaced", f"{dead['id']} by {replacement['id']} pid {replacement['pid']}")
        evidence("incarnation", replacement["incarnation"])
        evidence("synced to version", replacement["synced_version"])
        after = await predict(server, cluster_id, record)
        evidence("same prediction", before["prediction"] == after["prediction"])
        await server.call("neural_cluster_terminate", cluster_id=cluster_id)


async def predict(server: Neural, cluster_id: str, record: Reply) -> Reply:
    """Predict one record, with time for every node, and print who answered with what."""
    question = {"cluster_id": cluster_id, "input_data": record, "deadline_ms": 5000}
    reply = await server.call("neural_predict_distributed", **question)
    evidence("P(up)", reply["prediction"])
    evidence("answered", f"{reply['nodes_used']} of {reply['nodes_expected']} nodes")
    evidence("degraded", reply["degraded"])
    evidence("bundle", digest(reply["bundle_sha"]))
    return reply


if __name__ == "__main__":
    anyio.run(main, flags(__doc__, epochs=3).epochs)
