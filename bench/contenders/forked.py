"""Rounds in two forks of one process: parameters in shared memory, no isolation, nothing but the training."""

import mmap
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from bench.contenders.result import Stopwatch, report
from bench.work import Work, pooled_loss

PROCESSES = 2

TrainRound = Callable[[int, np.ndarray], Iterable[tuple[int, np.ndarray]]]
"""Of a round's number and the averaged parameters: the trained ones of each client."""


@dataclass(frozen=True)
class Contender:
    """What differs between those that train in forks.

    Attributes:
        model: As it starts; it is given the last average.
        to_vector: The parameters as one float32 vector.
        load_vector: Inverse of it.
        begin: In a fork: loads the rows of these clients and returns what trains them.
    """

    model: torch.nn.Module
    to_vector: Callable[[torch.nn.Module], np.ndarray]
    load_vector: Callable[[torch.nn.Module, np.ndarray], None]
    begin: Callable[[range], TrainRound]


def run(work: Work, rounds: int, contender: Contender) -> None:
    """Fork, run the rounds, average in the parent, report."""
    start = contender.to_vector(contender.model)
    memory = mmap.mmap(-1, 4 * start.size * (work.clients + 1))
    table = np.frombuffer(memory, dtype=np.float32).reshape(work.clients + 1, start.size)
    table[-1] = start
    ends = [_fork(range(n, work.clients, PROCESSES), table, contender) for n in range(PROCESSES)]
    watch = Stopwatch()
    for round_number in range(1, rounds + 1):
        with watch:
            for ask, _ in ends:
                os.write(ask, struct.pack("<q", round_number))
            for _, answer in ends:
                if not os.read(answer, 1):
                    raise SystemExit("a worker process ended")
            table[-1] = table[:-1].mean(axis=0, dtype=np.float64)
    contender.load_vector(contender.model, table[-1].copy())
    report(watch.round_s, pooled_loss(work, contender.model), watch.first_round_at_s)
    for ask, _ in ends:
        os.close(ask)


def _fork(mine: range, table: np.ndarray, contender: Contender) -> tuple[int, int]:
    """Start a process that trains these clients; return (where to ask, where it answers)."""
    asked, ask = os.pipe()
    answer, answered = os.pipe()
    if os.fork():
        os.close(asked)
        os.close(answered)
        return ask, answer
    os.close(ask)
    os.close(answer)
    train_round = contender.begin(mine)
    while message := os.read(asked, 8):
        (round_number,) = struct.unpack("<q", message)
        for client, trained in train_round(round_number, table[-1].copy()):
            table[client] = trained
        os.write(answered, b".")
    os._exit(0)
