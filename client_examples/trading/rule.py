"""Data that hold something to learn, for the same cluster that then meets a market."""

from console import evidence, number
from trading.showing import show_accuracy
from trading.system import TradingSystem

RULE_ROUNDS = 4
LEAST_SKILL = 0.5
"""Share of the best baseline's errors that must be avoided; .9 at the most, as one label in 20 is wrong."""


async def learn_a_rule(system: TradingSystem) -> None:
    """Train the cluster on data that hold something to learn, and print its accuracy beside the baselines.

    What follows is the same cluster on a market, of whose next hour little can be known.
    """
    learning = system.federated
    reply = await system.server.call(
        "neural_train_distributed",
        cluster_id=system.cluster_id,
        dataset="synthetic:xor",
        federated=True,
        rounds=RULE_ROUNDS,
        local_epochs=5,
        clients_per_round=3,
        learning_rate=0.002,
    )
    status = await learning.monitor_federated_training(reply["training_id"])
    show_accuracy(status)
    baselines = status["evaluation"]["baselines"]
    evidence("baselines", ", ".join(f"{name} {number(of, 3)}" for name, of in baselines.items()))
    if status["evaluation"]["skill"] < LEAST_SKILL:
        raise SystemExit("the cluster did not learn what can be learnt")
