"""The floor of training in processes: two forks of one process, parameters in shared memory, no isolation."""

import mmap
import os
import struct

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from bench.contenders.result import Stopwatch, arguments, report
from bench.work import (
    Work,
    batch_order,
    client_data,
    make_model,
    pooled_loss,
    train_client,
    trained_parameters,
)

PROCESSES = 2


def main() -> None:
    """Fork, run the rounds, average in the parent."""
    torch.set_num_threads(1)
    work, rounds, _ = arguments()
    model = make_model(work)
    start = parameters_to_vector(trained_parameters(model)).detach().numpy()
    memory = mmap.mmap(-1, 4 * start.size * (work.clients + 1))
    table = np.frombuffer(memory, dtype=np.float32).reshape(work.clients + 1, start.size)
    table[-1] = start
    ends = [fork_worker(work, model, table, number) for number in range(PROCESSES)]
    watch = Stopwatch()
    for round_number in range(1, rounds + 1):
        with watch:
            for ask, _ in ends:
                os.write(ask, struct.pack("<q", round_number))
            for _, answer in ends:
                if not os.read(answer, 1):
                    raise SystemExit("a worker process ended")
            table[-1] = table[:-1].mean(axis=0, dtype=np.float64)
    vector_to_parameters(torch.from_numpy(table[-1].copy()), trained_parameters(model))
    report(watch.round_s, pooled_loss(work, model), watch.first_round_at_s)
    for ask, _ in ends:
        os.close(ask)


def fork_worker(
    work: Work, model: torch.nn.Module, table: np.ndarray, number: int
) -> tuple[int, int]:
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
    data = {c: tuple(torch.from_numpy(part) for part in client_data(work, c)) for c in mine}
    while message := os.read(asked, 8):
        (round_number,) = struct.unpack("<q", message)
        for client in mine:
            shared = torch.from_numpy(table[-1].copy())
            vector_to_parameters(shared, trained_parameters(model))
            order = torch.from_numpy(batch_order(work, round_number, client))
            train_client(work, model, data[client], order, fused=True)
            table[client] = parameters_to_vector(trained_parameters(model)).detach().numpy()
        os.write(answered, b".")
    os._exit(0)


if __name__ == "__main__":
    main()
