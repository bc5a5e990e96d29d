"""The complete system: build, train, average, evaluate, predict live, lose a worker, withstand liars.

Takes under three minutes on two idle cores with the default of 8 rounds. All data is synthetic.
"""

import tempfile
from pathlib import Path

import anyio

from client import Reply, neural_server
from console import digest, evidence, flags, heading, number
from killing import kill_node
from trading import TradingSystem
from trading.poisoned import CLIENTS, LIARS, survive_liars
from trading.rule import learn_a_rule
from trading.showing import show_accuracy, show_cluster, show_inference


async def main(epochs: int, cycles: int, seed: int) -> None:
    """Run every part once and print its evidence."""
    with tempfile.TemporaryDirectory(prefix="flow-nexus-clients-") as folder:
        await run(Path(folder), epochs, cycles, seed)


async def run(folder: Path, epochs: int, cycles: int, seed: int) -> None:
    """All parts, with a folder for files of clients."""
    async with neural_server("--allow-path", str(folder)) as server:
        heading("1 init, deploy, connect")
        system = await TradingSystem.create(server, seed=seed)
        show_cluster(system)

        heading("2 learn a rule: which points lie in opposite quadrants")
        await learn_a_rule(system)

        heading(f"3 learn the market, federated, {epochs} rounds")
        training = await system.train(epochs)
        await show_training(system, training)

        heading("4 average over a temporary star")
        average = (await system.federated.aggregate_models())["aggregation"]
        evidence("performed", f"{average['performed']} over {average['contributors']} workers")
        evidence("weights", digest(average["weights_digest"]))

        heading("5 evaluate")
        await show_evaluation(system)

        heading(f"6 live inference, {cycles} predictions at 100 ms, with health checks")
        await system.run(cycles)
        show_inference(system)

        heading("7 kill one worker, replace it")
        await lose_and_recover(system)

        heading(
            f"8 {len(LIARS)} of {CLIENTS} clients flip their labels and flood the rest with rows"
        )
        await survive_liars(server, folder, seed)

        heading("9 terminate")
        evidence("stopped", (await system.terminate())["message"])


async def show_training(system: TradingSystem, training: Reply) -> None:
    """Print the data, what consensus guarantees, the curve, and the proof that weights moved."""
    facts = training["dataset_info"]
    evidence("data", f"{facts['name']} (synthetic: {facts['synthetic']})")
    evidence("rows", f"{facts['split']['train']} train, {facts['split']['test']} test")
    promise = training["guarantees"]
    evidence(
        "byzantine guarantee holds",
        f"{promise['holds']}: {promise['f_tolerated']} of {training['config']['clients_per_round']} may lie",
    )
    rounds = (await system.server.read(f"neural://clusters/{system.cluster_id}/history"))["rounds"]
    for label, key in (("train loss", "train_loss"), ("validation loss", "val_loss")):
        evidence(label, " ".join(number(point[key]) for point in rounds))
    evidence("seconds per round", " ".join(number(point["seconds"], 1) for point in rounds))
    proof = system.federated.last_status["training"]["evidence"]
    evidence("optimiser steps", proof["steps"])
    for when in ("before", "after"):
        evidence(f"weights {when}", digest(proof[f"weights_digest_{when}"]))


async def show_evaluation(system: TradingSystem) -> None:
    """Print accuracies beside what always guessing the majority would reach."""
    status = system.federated.last_status
    show_accuracy(status)
    evidence("majority baseline", number(status["evaluation"]["baseline_accuracy"], 3))
    fresh = await system.federated.evaluate_global_model()
    evidence("100 new hours, majority", f"{fresh['accuracy']:.3f}, {fresh['majority']:.3f}")


async def lose_and_recover(system: TradingSystem) -> None:
    """SIGKILL the first worker, predict without it, let the monitor replace it, predict with it."""
    record = system.inference.market.tick("BTC").record
    before = await ask(system, "before", record)
    status = await kill_node(system.server, system.cluster_id, "worker-0")
    dead = next(node for node in status["nodes"] if node["slot"] == "worker-0")
    evidence("killed", f"{dead['id']}: {dead['last_error']}; failed nodes {status['failed_nodes']}")
    await ask(system, "without it", record)
    await system.monitor.perform_health_check()
    for recovered in system.monitor.recoveries:
        evidence("replaced by", f"{recovered['id']} pid {recovered['pid']}")
        evidence("synced to version", f"{recovered['synced_version']} in {recovered['sync_ms']} ms")
    check = await system.monitor.perform_health_check()
    after = await ask(system, "after", record)
    if check is None or check.failed_nodes or after["prediction"] != before["prediction"]:
        raise SystemExit("the worker was not replaced by one that predicts the same")
    evidence("nodes active", f"{check.active_nodes}, different models {check.distinct_models}")


async def ask(system: TradingSystem, when: str, record: Reply) -> Reply:
    """Predict with time for every node; print the answer, who gave it, and the model's version."""
    question = {"cluster_id": system.cluster_id, "input_data": record, "deadline_ms": 5000}
    reply = await system.server.call("neural_predict_distributed", **question)
    who = f"{reply['nodes_used']} of {reply['nodes_expected']} nodes, version {reply['model_version']}"
    evidence(when, f"P(up) {number(reply['prediction'], 6)} by {who}")
    return reply


if __name__ == "__main__":
    chosen = flags(__doc__, epochs=8, cycles=50, seed=1)
    anyio.run(main, chosen.epochs, chosen.cycles, chosen.seed)
