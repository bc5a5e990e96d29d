"""The floor of node groups: two forks of one process, each of which trains its clients in stacks."""

from collections.abc import Iterator

import numpy as np
import torch

from bench.contenders.forked import Contender, TrainRound, run
from bench.contenders.node_rounds import load_vector, plan_of, to_vector
from bench.contenders.result import arguments
from bench.work import (
    BATCH_ROWS,
    LEARNING_RATE,
    Work,
    client_data,
    make_model,
    order_seed,
)
from flow_nexus_neural.node.stacked import Client, train_stacked
from flow_nexus_neural.node.trainer import Shard
from flow_nexus_neural.protocol.messages import Pass, Train
from flow_nexus_neural.protocol.plan import NetworkPlan


def main() -> None:
    """Run the rounds."""
    torch.set_num_threads(1)
    work, rounds, _ = arguments()
    model, plan = make_model(work), plan_of(work)
    run(
        work, rounds, Contender(model, to_vector, load_vector, lambda mine: begin(work, plan, mine))
    )


def begin(work: Work, plan: NetworkPlan, mine: range) -> TrainRound:
    """Load the rows of these clients."""
    shards = [Shard(*client_data(work, client)) for client in mine]
    zeros = np.zeros(plan.n_params, np.float32)

    def train_round(round_number: int, base: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        state = {"params": base, "m": zeros, "v": zeros}
        clients = [
            Client(state, shard, request_of(round_number, client))
            for client, shard in zip(mine, shards, strict=True)
        ]
        outcomes = train_stacked(plan, clients, lambda _ms, _who: None)
        for client, outcome in zip(mine, outcomes, strict=True):
            yield client, outcome.state["params"]

    return train_round


def request_of(round_number: int, client: int) -> Train:
    """What a client does in a round."""
    return Train(
        network="train",
        base="base",
        opt_step=0,
        shard="shard",
        publish="publish",
        optimizer="adam",
        learning_rate=LEARNING_RATE,
        batch_size=BATCH_ROWS,
        passes=(Pass(order_seed=order_seed(round_number, client)),),
        dropout_seed=0,
    )


if __name__ == "__main__":
    main()
