"""Recurrent layers over [n, t, c] with Keras' weights, gate order and bias rules.

With the default activations torch's own kernels are used. They read the Keras weights through transposed
views: measured for an LSTM of 256 units over 50 steps, batch 32, this costs as much as contiguous copies
(20.9 against 20.6 ms per training step), and less than backpropagation written by hand (26 ms).
With other activations a loop over the steps is used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from flow_nexus_neural.node.activations import Activation, activation_of
from flow_nexus_neural.node.arguments import Arguments
from flow_nexus_neural.node.layer import Layer, Noise, Parts, drop
from flow_nexus_neural.node.registry import computes
from flow_nexus_neural.protocol.plan import PlannedLayer

Cell = Literal["lstm", "gru", "simple_rnn"]
CELLS: tuple[Cell, ...] = ("lstm", "gru", "simple_rnn")

NATIVE_RNN = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}
"""Activations for which torch has a kernel of its own for the simple recurrence."""


@computes("lstm", "gru", "simple_rnn")
@dataclass(frozen=True, slots=True)
class Recurrent(Layer):
    """One recurrent layer: [n, t, c] -> [n, t, units], or [n, units] for the last step processed.

    Sources: LSTM: Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000, one bias, gates
    i, f, c, o. GRU: Cho et al. 2014, with the reset gate applied after the matrix product and two biases,
    gates z, r, h. Dropout draws one mask per row for all steps (Gal and Ghahramani 2016), on the input.

    Attributes:
        run: Maps [n, t, c] and the tensors to the outputs of all steps.
        prefix: Prefix of the part names, for the layers inside a bidirectional one.
    """

    run: "Sequence"
    return_sequences: bool
    dropout: float
    go_backwards: bool
    prefix: str = ""

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls.of(Arguments.of(layer), _cell(layer.type))

    @classmethod
    def of(cls, arguments: Arguments, cell: Cell, prefix: str = "") -> Self:
        """Build from arguments."""
        return cls(
            _sequence(cell, arguments),
            arguments.boolean("return_sequences"),
            arguments.number("dropout", below=1.0),
            arguments.boolean("go_backwards"),
            prefix,
        )

    @property
    @override
    def row_by_row(self) -> bool:
        """Its kernels take one set of weights for all rows."""
        return True

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        outputs = self.steps(x, parts, noise)
        return outputs if self.return_sequences else outputs[:, -1]

    def steps(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Outputs of all steps, [n, t, units], in the order of processing."""
        x = drop(x, self.dropout, noise, (x.shape[0], 1, x.shape[2]))
        if self.go_backwards:
            x = x.flip(1)
        return self.run(
            x,
            parts[f"{self.prefix}kernel"],
            parts[f"{self.prefix}recurrent_kernel"],
            parts[f"{self.prefix}bias"],
        )


Sequence = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Input [n, t, c], kernel, recurrent kernel and bias to outputs [n, t, units]."""


@computes("bidirectional")
@dataclass(frozen=True, slots=True)
class Bidirectional(Layer):
    """Two recurrent layers, one over the reversed steps, merged position by position.

    Source: Schuster and Paliwal, "Bidirectional Recurrent Neural Networks", 1997; joined as in Keras.
    """

    ahead: Recurrent
    behind: Recurrent
    merge: str

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        arguments = Arguments.of(layer)
        inner = arguments.nested("layer")
        cell = _cell(inner.choice("type", CELLS))
        turned = not inner.boolean("go_backwards")
        mirrored = Arguments({**inner.values, "go_backwards": turned}, inner.subject)
        return cls(
            Recurrent.of(inner, cell, "forward."),
            Recurrent.of(mirrored, cell, "backward."),
            arguments.choice("merge_mode", ("concat", "sum", "mul", "ave")),
        )

    @property
    @override
    def row_by_row(self) -> bool:
        """As its two recurrent layers."""
        return True

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        ahead, behind = self.ahead(x, parts, noise), self.behind(x, parts, noise)
        if self.ahead.return_sequences:
            behind = behind.flip(1)  # its outputs are in order of processing, last step first
        match self.merge:
            case "sum":
                return ahead + behind
            case "mul":
                return ahead * behind
            case "ave":
                return (ahead + behind) / 2
            case _:
                return torch.cat((ahead, behind), dim=-1)


def _cell(name: str) -> Cell:
    for cell in CELLS:
        if cell == name:
            return cell
    raise ValueError(f"{name!r} is no recurrent cell")


def _sequence(cell: Cell, arguments: Arguments) -> Sequence:
    activation = activation_of(arguments)
    name = arguments.values["activation"]
    if cell == "simple_rnn":
        return _native_rnn(str(name)) if name in NATIVE_RNN else _stepwise_rnn(activation)
    gate = activation_of(arguments, "recurrent_activation")
    usual = name == "tanh" and arguments.values["recurrent_activation"] == "sigmoid"
    if cell == "lstm":
        return native_lstm if usual else stepwise_lstm(activation, gate)
    return native_gru if usual else stepwise_gru(activation, gate)


def native_lstm(x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
    """Torch's LSTM. Its gate order is that of Keras; its second bias, which Keras lacks, is zero."""
    state = x.new_zeros(1, x.shape[0], recurrent.shape[0])
    weights = [kernel.t(), recurrent.t(), bias, torch.zeros_like(bias)]
    training = torch.is_grad_enabled()
    # has_biases, layers, dropout, train, bidirectional, batch_first
    outputs, _, _ = torch.lstm(x, (state, state), weights, True, 1, 0.0, training, False, True)  # noqa: FBT003
    return outputs


def native_gru(x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
    """Torch's GRU, with the weights reordered: its gates are r, z, h, those of Keras z, r, h."""
    state = x.new_zeros(1, x.shape[0], recurrent.shape[0])
    both = _reset_first(bias)  # [2, 3 units]
    weights = [_reset_first(kernel).t(), _reset_first(recurrent).t(), both[0], both[1]]
    training = torch.is_grad_enabled()
    outputs, _ = torch.gru(x, state, weights, True, 1, 0.0, training, False, True)  # noqa: FBT003
    return outputs


def _reset_first(gates: Tensor) -> Tensor:
    update, reset, candidate = gates.chunk(3, dim=-1)
    return torch.cat((reset, update, candidate), dim=-1)


def _native_rnn(name: str) -> Sequence:
    kernel_of = NATIVE_RNN[name]

    def run(x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
        state = x.new_zeros(1, x.shape[0], recurrent.shape[0])
        weights = [kernel.t(), recurrent.t(), bias, torch.zeros_like(bias)]
        training = torch.is_grad_enabled()
        outputs, _ = kernel_of(x, state, weights, True, 1, 0.0, training, False, True)  # noqa: FBT003
        return outputs

    return run


def _stepwise_rnn(activation: Activation) -> Sequence:
    def run(x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
        inputs = functional.linear(x, kernel.t(), bias)  # [n, t, units]
        hidden = x.new_zeros(x.shape[0], recurrent.shape[0])
        outputs: list[Tensor] = []
        for step in inputs.unbind(1):
            hidden = activation(torch.addmm(step, hidden, recurrent))
            outputs.append(hidden)
        return torch.stack(outputs, dim=1)

    return run


def stepwise_lstm(activation: Activation, gate: Activation) -> Sequence:
    """An LSTM with any activations: c = f * c + i * act(z), h = o * act(c)."""

    def run(x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
        inputs = functional.linear(x, kernel.t(), bias)  # [n, t, 4 units]
        hidden = x.new_zeros(x.shape[0], recurrent.shape[0])
        carry = hidden
        outputs: list[Tensor] = []
        for step in inputs.unbind(1):
            i, f, c, o = torch.addmm(step, hidden, recurrent).chunk(4, dim=1)
            carry = gate(f) * carry + gate(i) * activation(c)
            hidden = gate(o) * activation(carry)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1)

    return run


def stepwise_gru(activation: Activation, gate: Activation) -> Sequence:
    """A GRU with any activations: h = z * h + (1 - z) * act(x_h + r * (h U_h + b_h))."""

    def run(x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor) -> Tensor:
        inputs = functional.linear(x, kernel.t(), bias[0])  # [n, t, 3 units]
        hidden = x.new_zeros(x.shape[0], recurrent.shape[0])
        outputs: list[Tensor] = []
        for step in inputs.unbind(1):
            x_update, x_reset, x_candidate = step.chunk(3, dim=1)
            h_update, h_reset, h_candidate = torch.addmm(bias[1], hidden, recurrent).chunk(3, dim=1)
            update = gate(x_update + h_update)
            candidate = activation(x_candidate + gate(x_reset + h_reset) * h_candidate)
            hidden = update * hidden + (1.0 - update) * candidate
            outputs.append(hidden)
        return torch.stack(outputs, dim=1)

    return run
