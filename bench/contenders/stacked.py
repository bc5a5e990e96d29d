"""The floor of node groups: two forks of one process, each of which trains its clients in stacks."""

import mmap
import os
import struct

import numpy as np
import torch

from bench.contenders.node_rounds import load_vector, plan_of, to_vector
from bench.contenders.result import Stopwatch, arguments, report
from bench.work import (
    BATCH_ROWS,
    LEARNING_RATE,
    Work,
    client_data,
    make_model,
    order_seed,
    pooled_loss,
)
from flow_nexus_neural.node.stacked import Client, train_stacked
from flow_nexus_neural.node.trainer import Shard
from flow_nexus_neural.protocol.messages import Pass, Train
from flow_nexus_neural.protocol.plan import NetworkPlan

PROCESSES = 2


def main() -> None:
    """Fork, run the rounds, average in the parent."""
    torch.set_num_threads(1)
    work, rounds, _ = arguments()
    model, plan = make_model(work), plan_of(work)
    start = to_vector(model)
    memory = mmap.mmap(-1, 4 * start.size * (work.clients + 1))
    table = np.frombuffer(memory, dtype=np.float32).reshape(work.clients + 1, start.size)
    table[-1] = start
    ends = [fork_worker(work, plan, table, number) for number in range(PROCESSES)]
    watch = Stopwatch()
    for round_number in range(1, rounds + 1):
        with watch:
            for ask, _ in ends:
                os.write(ask, struct.pack("<q", round_number))
            for _, answer in ends:
                if not os.read(answer, 1):
                    raise SystemExit("a worker process ended")
            table[-1] = table[:-1].mean(axis=0, dtype=np.float64)
    load_vector(model, table[-1].copy())
    report(watch.round_s, pooled_loss(work, model), watch.first_round_at_s)
    for ask, _ in ends:
        os.close(ask)


def fork_worker(work: Work, plan: NetworkPlan, table: np.ndarray, number: int) -> tuple[int, int]:
    """Start a process that trains every second client; return (where to ask, where it answers)."""
    asked, ask = os.pipe()
    answer, answered = os.pipe()
    if os.fork():
        os.close(asked)
        os.close(answered)
        return ask, answer
    os.close(ask)
    os.close(answer)
    mine = range(number, work.clients, PROCESSES)
    shards = [Shard(*client_data(work, client)) for client in mine]
    zeros = np.zeros(plan.n_params, np.float32)
    while message := os.read(asked, 8):
        (round_number,) = struct.unpack("<q", message)
        base = {"params": table[-1], "m": zeros, "v": zeros}
        clients = [
            Client(base, shard, request_of(round_number, client))
            for client, shard in zip(mine, shards, strict=True)
        ]
        for client, outcome in zip(
            mine, train_stacked(plan, clients, lambda _ms, _who: None), strict=True
        ):
            table[client] = outcome.state["params"]
        os.write(answered, b".")
    os._exit(0)


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
