"""The plain loop: one process, one thread, one client after the other."""

import torch

from bench.contenders.result import Stopwatch, arguments, report
from bench.work import (
    batch_order,
    client_data,
    make_model,
    pooled_loss,
    train_client,
    trained_parameters,
)


def main() -> None:
    """Run the rounds."""
    torch.set_num_threads(1)
    work, rounds, given = arguments()
    model = make_model(work)
    data = [
        tuple(torch.from_numpy(part) for part in client_data(work, client))
        for client in range(work.clients)
    ]
    shared = [parameter.detach().clone() for parameter in trained_parameters(model)]
    watch = Stopwatch()
    for round_number in range(1, rounds + 1):
        with watch:
            sums = [torch.zeros_like(part, dtype=torch.float64) for part in shared]
            for client in range(work.clients):
                with torch.no_grad():
                    for parameter, part in zip(trained_parameters(model), shared, strict=True):
                        parameter.copy_(part)
                order = torch.from_numpy(batch_order(work, round_number, client))
                train_client(work, model, data[client], order, fused=given.fused)
                with torch.no_grad():
                    for total, parameter in zip(sums, trained_parameters(model), strict=True):
                        total.add_(parameter)
            shared = [(total / work.clients).float() for total in sums]
    with torch.no_grad():
        for parameter, part in zip(trained_parameters(model), shared, strict=True):
            parameter.copy_(part)
    report(watch.round_s, pooled_loss(work, model), watch.first_round_at_s)


if __name__ == "__main__":
    main()
