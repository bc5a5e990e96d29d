"""The work that every contender does. Nothing of this project is imported here.

A round: every client starts from the shared parameters with fresh Adam moments, passes once over its own
rows in batches of 32, and the parameters are averaged (all clients have equally many rows). Same data, same
order of rows, same start: two correct contenders end at the same pooled loss to five digits.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

BATCH_ROWS = 32
LEARNING_RATE = 1e-3
BETAS = (0.9, 0.999)
EPSILON = 1e-7


@dataclass(frozen=True)
class Work:
    """One workload.

    Attributes:
        steps: Steps of a row's sequence; a dense network sees the row as it is.
        hidden: Widths of the dense layers before the single linear output.
    """

    name: str
    clients: int
    rows: int
    steps: int
    hidden: tuple[tuple[int, str], ...]
    recurrent: bool = False


WORKS = {
    work.name: work
    for work in (
        Work("W1", 8, 1000, 50, ((64, "relu"), (32, "relu"))),
        Work("W2", 6, 256, 50, ((128, "relu"), (64, "tanh")), recurrent=True),
        Work("W3", 32, 500, 50, ((512, "relu"), (256, "relu"))),
    )
}

LSTM_UNITS, HEADS, KEY_DIM = 256, 8, 64


def client_data(work: Work, client: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one client: x [rows, steps] and y [rows], float32."""
    rng = np.random.default_rng(1000 + client)
    x = rng.standard_normal((work.rows, work.steps))
    truth = np.random.default_rng(7).standard_normal(work.steps) / work.steps**0.5
    y = 1 / (1 + np.exp(-(x @ truth + 0.1 * rng.standard_normal(work.rows))))
    return x.astype(np.float32), y.astype(np.float32)


def order_seed(round_number: int, client: int) -> int:
    """Seed of the order in which a client sees its rows in a round."""
    return round_number * 10_007 + client


def batch_order(work: Work, round_number: int, client: int) -> np.ndarray:
    """The order itself, [rows] int64."""
    seed = order_seed(round_number, client)
    return np.random.Generator(np.random.PCG64(seed)).permutation(work.rows)


class SelfAttention(nn.Module):
    """Textbook multi-head attention with a key width of its own; [batch, steps, width] in and out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = HEADS * KEY_DIM
        self.query, self.key, self.value = (nn.Linear(width, inner) for _ in range(3))
        self.output = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over all steps."""
        heads = [
            part(x).unflatten(-1, (HEADS, KEY_DIM)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        ]
        mixed = nn.functional.scaled_dot_product_attention(*heads)
        return self.output(mixed.transpose(1, 2).flatten(-2))


class SequenceFront(nn.Module):
    """LSTM with one trained bias, attention, last step: [batch, steps] -> [batch, units]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, LSTM_UNITS, batch_first=True)
        with torch.no_grad():
            self.lstm.bias_hh_l0.zero_()
        self.lstm.bias_hh_l0.requires_grad_(requires_grad=False)
        self.attention = SelfAttention(LSTM_UNITS)

    def forward(self, x: Tensor) -> Tensor:
        """Read a sequence of one channel."""
        states, _ = self.lstm(x.unsqueeze(-1))
        return self.attention(states)[:, -1]


def make_model(work: Work) -> nn.Sequential:
    """The model with its starting parameters, the same on every call."""
    torch.manual_seed(0)
    parts: list[nn.Module] = [SequenceFront()] if work.recurrent else []
    width = LSTM_UNITS if work.recurrent else work.steps
    for units, activation in work.hidden:
        parts += [nn.Linear(width, units), nn.ReLU() if activation == "relu" else nn.Tanh()]
        width = units
    return nn.Sequential(*parts, nn.Linear(width, 1))


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """What the optimiser moves and the round averages."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def train_client(
    work: Work, model: nn.Module, data: tuple[Tensor, Tensor], order: Tensor, *, fused: bool
) -> None:
    """One local pass of one client, in place."""
    x, y = data
    optimizer = torch.optim.Adam(
        trained_parameters(model), lr=LEARNING_RATE, betas=BETAS, eps=EPSILON, fused=fused
    )
    for start in range(0, work.rows, BATCH_ROWS):
        rows = order[start : start + BATCH_ROWS]
        optimizer.zero_grad(set_to_none=True)
        nn.functional.mse_loss(model(x[rows]).squeeze(-1), y[rows]).backward()
        optimizer.step()


def pooled_loss(work: Work, model: nn.Module) -> float:
    """Mean squared error over the rows of all clients: the proof of equal work."""
    with torch.no_grad():
        losses = []
        for client in range(work.clients):
            x, y = (torch.from_numpy(part) for part in client_data(work, client))
            losses.append(float(nn.functional.mse_loss(model(x).squeeze(-1), y)))
    return sum(losses) / len(losses)
