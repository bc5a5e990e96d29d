"""A 100 ms inference loop: weights learnt from outcomes, latencies of client and server side by side."""

import anyio

from client import neural_server
from console import evidence, flags, heading, number
from trading import DistributedInferenceEngine, FederatedTradingLearning, SyntheticMarket
from trading.system import DATASET


async def main(epochs: int, hours: int, cycles: int) -> None:
    """Train three small recurrent nodes, calibrate, predict."""
    async with neural_server() as server:
        cluster = await server.call("neural_cluster_init", name="live", architecture="rnn", seed=1)
        for _ in range(3):
            await server.call("neural_node_deploy", cluster_id=cluster["id"])
        heading("train")
        learning = FederatedTradingLearning(server, cluster["id"])
        await learning.monitor_federated_training(
            (
                await server.call(
                    "neural_train_distributed",
                    cluster_id=cluster["id"],
                    dataset=DATASET,
                    epochs=epochs,
                    federated=True,
                )
            )["training_id"]
        )

        heading("calibrate on synthetic hours with known outcomes")
        engine = DistributedInferenceEngine(server, cluster["id"], SyntheticMarket(seed=5))
        weights = await engine.calibrate_ensemble(hours)
        evidence("weights", " ".join(f"{weight:.3f}" for weight in weights.values()))

        heading("predict every 100 ms")
        await engine.start_inference_pipeline(cycles)
        show_report(engine)
        await server.call("neural_cluster_terminate", cluster_id=cluster["id"])


def show_report(engine: DistributedInferenceEngine) -> None:
    """Print counts, latencies and how often the direction was right."""
    report = engine.get_performance_report()
    evidence("predictions", f"{report['total_predictions']}, failed {report['failed_predictions']}")
    for where in ("latency", "server_latency"):
        stats = report[where]
        evidence(
            f"{where} ms",
            f"p50 {stats['median']:.1f} p95 {stats['p95']:.1f} p99 {stats['p99']:.1f}",
        )
    evidence("consensus", number(report["consensus"]["mean"], 3))
    evidence("direction right", number(report["direction_accuracy"], 3))
    evidence("last signal", engine.prediction_cache["BTC"].signal.action)


if __name__ == "__main__":
    chosen = flags(__doc__, epochs=10, hours=40, cycles=50)
    anyio.run(main, chosen.epochs, chosen.hours, chosen.cycles)
