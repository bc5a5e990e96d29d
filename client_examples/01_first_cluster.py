"""Quick start: two nodes learn which points lie inside a circle, then predict its centre."""

import anyio
import numpy as np

from client import neural_server
from console import evidence, flags, number

LAYERS = [{"type": "dense", "units": 32, "activation": "relu"}]


async def main(epochs: int) -> None:
    """Create, deploy, train, wait, predict, terminate."""
    points = np.random.default_rng(0).uniform(-1, 1, size=(600, 2)).round(3)
    dataset = {"X": points.tolist(), "y": (np.hypot(*points.T) < 0.8).astype(int).tolist()}
    async with neural_server() as server:
        cluster = {"cluster_id": (await server.call("neural_cluster_init", name="first"))["id"]}
        for _ in range(2):
            node = await server.call("neural_node_deploy", **cluster, layers=LAYERS)
            evidence("deployed", f"{node['slot']} {node['id']} pid {node['pid']}")
        training = {"dataset": dataset, "epochs": epochs, "learning_rate": 0.01}
        await server.call("neural_train_distributed", **cluster, **training)
        done = {"wait_seconds": 25, "until": "done"}
        while (status := await server.call("neural_cluster_status", **cluster, **done))[
            "timed_out"
        ]:
            evidence("trained", f"{status['training_progress']:.0f} %")
        if status["training_error"]:
            raise SystemExit(status["training_error"])
        evidence("accuracy, unseen points", number(status["global_accuracy"], 3))
        evidence("always the majority", number(status["evaluation"]["baseline_accuracy"], 3))
        reply = await server.call("neural_predict_distributed", **cluster, input_data=[0.1, 0.0])
        evidence("P(inside) at the centre", number(reply["prediction"], 3))
        evidence("done", (await server.call("neural_cluster_terminate", **cluster))["message"])


if __name__ == "__main__":
    anyio.run(main, flags(__doc__, epochs=30).epochs)
