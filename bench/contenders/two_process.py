"""The floor of training in processes: two forks of one process, each of which trains client by client."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from bench.contenders.forked import Contender, TrainRound, run
from bench.contenders.result import arguments
from bench.work import (
    Work,
    batch_order,
    client_data,
    make_model,
    train_client,
    trained_parameters,
)


def main() -> None:
    """Run the rounds."""
    torch.set_num_threads(1)
    work, rounds, _ = arguments()
    model = make_model(work)
    run(
        work,
        rounds,
        Contender(model, to_vector, load_vector, lambda mine: begin(work, model, mine)),
    )


def to_vector(model: torch.nn.Module) -> np.ndarray:
    """The parameters in torch's own order."""
    return parameters_to_vector(trained_parameters(model)).detach().numpy()


def load_vector(model: torch.nn.Module, vector: np.ndarray) -> None:
    """Inverse of `to_vector`."""
    vector_to_parameters(torch.from_numpy(vector), trained_parameters(model))


def begin(work: Work, model: torch.nn.Module, mine: range) -> TrainRound:
    """Load the rows of these clients."""
    data = {c: tuple(torch.from_numpy(part) for part in client_data(work, c)) for c in mine}

    def train_round(round_number: int, base: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        for client in mine:
            load_vector(model, base.copy())
            order = torch.from_numpy(batch_order(work, round_number, client))
            train_client(work, model, data[client], order, fused=True)
            yield client, to_vector(model)

    return train_round


if __name__ == "__main__":
    main()
