"""Federated training of six sequence models on synthetic hours: losses, digests, held-out accuracy."""

import anyio

from client import Neural, Reply, neural_server
from console import digest, evidence, flags, heading, number
from trading import DistributedNeuralTrader, FederatedTradingLearning
from trading.system import DATASET


async def main(epochs: int, seed: int) -> None:
    """Build, train, average over a star, evaluate."""
    async with neural_server() as server:
        trader = DistributedNeuralTrader(server, seed=seed)
        cluster_id = await trader.initialize_cluster()
        learning = FederatedTradingLearning(server, cluster_id)

        heading("train")
        training = await learning.start_federated_training(DATASET, epochs=epochs)
        show_data(training)
        await show_training(server, learning)

        heading("average over a temporary star")
        show_aggregation(await learning.aggregate_models())

        heading("evaluate")
        await show_evaluation(learning)
        await server.call("neural_cluster_terminate", cluster_id=cluster_id)


def show_data(training: Reply) -> None:
    """Print what the cluster was trained on."""
    facts = training["dataset_info"]
    evidence("data", f"{facts['name']}, synthetic: {facts['synthetic']}")
    evidence("rows", f"{facts['split']['train']} train, {facts['split']['test']} test")
    evidence("parameters", training["networks"][0]["parameters"])


async def show_training(server: Neural, learning: FederatedTradingLearning) -> None:
    """Print the curve and the proof that weights moved."""
    rounds = (await server.read(f"neural://clusters/{learning.cluster_id}/history"))["rounds"]
    losses = " ".join(number(point["train_loss"]) for point in rounds)
    evidence("train loss per round", losses)
    proof = learning.last_status["training"]["evidence"]
    evidence("optimiser steps", proof["steps"])
    evidence("weights before", digest(proof["weights_digest_before"]))
    evidence("weights after", digest(proof["weights_digest_after"]))


def show_aggregation(connection: Reply) -> None:
    """Print the exact average that the star made."""
    average = connection["aggregation"]
    evidence("performed", f"{average['performed']} over {average['contributors']} workers")
    evidence("weights", digest(average["weights_digest"]))


async def show_evaluation(learning: FederatedTradingLearning) -> None:
    """Print accuracies beside what the majority class would reach."""
    status = learning.last_status
    held_out = status["evaluation"]
    low, high = held_out["accuracy_interval"]
    evidence("held-out accuracy", f"{number(status['global_accuracy'], 3)} ({low:.3f}-{high:.3f})")
    evidence("majority baseline", number(held_out["baseline_accuracy"], 3))
    fresh = await learning.evaluate_global_model()
    evidence("new synthetic hours", len(fresh["predictions"]))
    evidence("accuracy, majority", f"{fresh['accuracy']:.3f}, {fresh['majority']:.3f}")
    evidence("consistency of nodes", number(fresh["model_consistency"]))


if __name__ == "__main__":
    chosen = flags(__doc__, epochs=8, seed=1)
    anyio.run(main, chosen.epochs, chosen.seed)
