"""Recurrent layers: the inputs of all steps are multiplied at once, then the steps run one after the other.

Each gate has its own padded part of a row, so that gates are rows of their own for every kernel.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.protocol.plan import PlannedLayer
from flow_nexus_neural.wasm.compile.memory import PANEL, Buffer, padded
from flow_nexus_neural.wasm.compile.registry import integer, text, writes
from flow_nexus_neural.wasm.compile.text import FLOAT_BYTES, Expression, add, times
from flow_nexus_neural.wasm.compile.writer import Tensors, Writer

GATES = {"lstm": 4, "gru": 3, "simple_rnn": 1}


@dataclass(frozen=True)
class Cell:
    """One recurrent layer, or one half of a bidirectional one.

    Attributes:
        kind: Type of the layer.
        args: Its arguments.
        prefix: Of its tensors' parts.
        backwards: Whether the last step comes first.
    """

    kind: str
    args: Mapping[str, object]
    prefix: str
    backwards: bool

    @property
    def units(self) -> int:
        """Width of its output."""
        return integer(self.args, "units")

    @property
    def sequences(self) -> bool:
        """Whether it gives the outputs of all steps."""
        return bool(self.args["return_sequences"])


@writes("lstm", "gru", "simple_rnn")
def recurrent(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """One layer; outputs are in the order of processing."""
    cell = Cell(layer.type, layer.args, "", bool(layer.args["go_backwards"]))
    y = _run(writer, cell, x)
    writer.release(x)
    return y


@writes("bidirectional")
def bidirectional(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """Two layers, one over the reversed steps, merged position by position."""
    inner = layer.args["layer"]
    if not isinstance(inner, Mapping):
        raise TypeError("a bidirectional layer has a layer")
    kind, turned = text(inner, "type"), bool(inner["go_backwards"])
    ahead = _run(writer, Cell(kind, inner, "forward.", turned), x)
    behind = _run(writer, Cell(kind, inner, "backward.", not turned), x)
    writer.release(x)
    if behind.steps is not None:
        behind = _reversed(writer, behind)
    merge = text(layer.args, "merge_mode")
    if merge == "concat":
        return _joined(writer, ahead, behind)
    writer.apply("multiply" if merge == "mul" else "add", ahead, behind)
    writer.release(behind)
    if merge == "ave":
        writer.apply("halve", ahead)
    return ahead


def _joined(writer: Writer, ahead: Buffer, behind: Buffer) -> Buffer:
    y = writer.buffer(ahead.steps, 2 * ahead.width)
    n_bytes = ahead.width * FLOAT_BYTES
    for half, x in enumerate((ahead, behind)):
        to = y.at + half * n_bytes
        writer.call("copy_rows", to, y.between_rows, x.at, x.between_rows, n_bytes, writer.rows(x))
    writer.release(ahead, behind)
    return y


def _reversed(writer: Writer, x: Buffer) -> Buffer:
    """The steps in reverse order."""
    y, last = writer.buffer(x.steps, x.width), (x.rows - 1) * x.row_bytes
    with writer.body.each(writer.samples) as i:
        source = add(writer.sample(x, i), last)
        writer.call(
            "copy_rows", writer.sample(y, i), y.row_bytes, source, -x.row_bytes, x.row_bytes, x.rows
        )
    writer.release(x)
    return y


def _by_gates(matrix: NDArray[np.floating], gates: int) -> NDArray[np.floating]:
    """[k, gates * units] with every gate padded."""
    units = matrix.shape[1] // gates
    wide = np.zeros((len(matrix), gates, padded(units)), matrix.dtype)
    wide[:, :, :units] = matrix.reshape(len(matrix), gates, units)
    return wide.reshape(len(matrix), -1)


class _Steps:
    """The loop over the steps of one cell."""

    def __init__(self, writer: Writer, cell: Cell, x: Buffer) -> None:
        self.writer, self.cell = writer, cell
        gates, units, prefix = GATES[cell.kind], cell.units, cell.prefix
        self.part = padded(units) * FLOAT_BYTES
        """Bytes of one gate."""
        self.width = gates * padded(units)

        def kernel(parts: Tensors) -> NDArray[np.floating]:
            return _by_gates(parts[f"{prefix}kernel"], gates)

        def recurrent_kernel(parts: Tensors) -> NDArray[np.floating]:
            return _by_gates(parts[f"{prefix}recurrent_kernel"], gates)

        def bias(parts: Tensors) -> NDArray[np.floating]:
            return _by_gates(parts[f"{prefix}bias"].reshape(-1, gates * units)[:1], gates)

        def second_bias(parts: Tensors) -> NDArray[np.floating]:
            return _by_gates(parts[f"{prefix}bias"].reshape(-1, gates * units)[1:], gates)

        weights = writer.weights(x.width, self.width, kernel)
        self.inputs = writer.product(x, self.width, weights, writer.vector(self.width, bias))
        self.recurrent = writer.weights(units, self.width, recurrent_kernel)
        self.second_bias = writer.vector(self.width, second_bias) if cell.kind == "gru" else None
        self.state = writer.buffer(None, self.width)
        self.hidden = writer.buffer(None, units)
        self.carry = writer.buffer(None, units) if cell.kind == "lstm" else None

    def multiply(self, at: Expression) -> None:
        """`state = inputs + h U`, or `h U + b` for a GRU, whose reset gate comes between the two."""
        hidden, state = self.hidden, self.state
        init: tuple[Expression | int, int] = (at, self.inputs.sample_bytes)
        if self.second_bias is not None:
            init = (self.second_bias, 0)
        self.writer.call(
            "matmul", hidden.at, hidden.row_bytes, self.recurrent, *init, state.at, state.row_bytes,
            self.writer.samples, self.cell.units, 1, 0, self.width // PANEL,
        )  # fmt: skip

    def activate(self, argument: str, first: int, count: int = 1) -> None:
        """An activation of the state's gates."""
        for gate in range(first, first + count):
            self.writer.activate_at(
                text(self.cell.args, argument), self.gate(gate), self.state.row_bytes,
                self.cell.units, self.writer.samples,
            )  # fmt: skip

    def gate(self, number: int) -> int:
        """Address of a gate in the state."""
        return self.state.at + number * self.part

    def over(self, kernel: str, *places: tuple[Expression | int, int]) -> None:
        """A kernel over one gate's width of every sample."""
        flat = [term for place in places for term in place]
        self.writer.call(kernel, *flat, self.part // 16, self.writer.samples)

    def step(self, at: Expression) -> None:
        """One step, whose products of the input lie at an address."""
        self.multiply(at)
        match self.cell.kind:
            case "lstm":
                self._lstm()
            case "gru":
                self._gru(at)
            case _:
                self.activate("activation", 0)
                self._set_hidden((self.gate(0), self.state.row_bytes))

    def _lstm(self) -> None:
        """Gates i, f, c, o: c = f * c + i * act(z), h = o * act(c)."""
        if self.carry is None:
            raise TypeError("an LSTM has a carry")
        row, carry = self.state.row_bytes, (self.carry.at, self.carry.row_bytes)
        hidden = (self.hidden.at, self.hidden.row_bytes)
        self.activate("recurrent_activation", 0, 2)
        self.activate("activation", 2)
        self.activate("recurrent_activation", 3)
        self.over("multiply", (self.gate(2), row), (self.gate(0), row))
        self.over("scale_onto", carry, (self.gate(1), row), (self.gate(2), row))
        self._set_hidden(carry)
        self.writer.activate_at(
            text(self.cell.args, "activation"), *hidden, self.cell.units, self.writer.samples
        )
        self.over("multiply", hidden, (self.gate(3), row))

    def _gru(self, at: Expression) -> None:
        """Gates z, r, h: h = z * h + (1 - z) * act(x_h + r * (h U_h + b_h))."""
        row, inputs = self.state.row_bytes, self.inputs.sample_bytes
        for gate in range(2):
            self.over("add", (self.gate(gate), row), (add(at, gate * self.part), inputs))
        self.activate("recurrent_activation", 0, 2)
        candidate = (self.gate(2), row)
        self.over("scale_onto", candidate, (self.gate(1), row), (add(at, 2 * self.part), inputs))
        self.activate("activation", 2)
        self.over("blend", (self.hidden.at, self.hidden.row_bytes), (self.gate(0), row), candidate)

    def _set_hidden(self, source: tuple[int, int]) -> None:
        hidden = self.hidden
        self.writer.call(
            "copy_rows", hidden.at, hidden.row_bytes, *source, self.part, self.writer.samples
        )


def _run(writer: Writer, cell: Cell, x: Buffer) -> Buffer:
    """All steps of a cell; `x` is still needed."""
    steps = _Steps(writer, cell, x)
    for buffer in (steps.hidden, steps.carry):
        if buffer is not None:
            writer.body.zero(buffer.at, times(writer.samples, buffer.sample_bytes))
    y = writer.buffer(x.rows, cell.units) if cell.sequences else None
    inputs = steps.inputs
    with writer.body.each(x.rows) as s:
        if cell.backwards:
            last = inputs.at + (x.rows - 1) * inputs.row_bytes
            at = f"(i32.sub {add(last)} {times(s, inputs.row_bytes)})"
        else:
            at = add(times(s, inputs.row_bytes), inputs.at)
        steps.step(at)
        if y is not None:
            writer.call(
                "copy_rows", add(times(s, y.row_bytes), y.at), y.sample_bytes, steps.hidden.at,
                steps.hidden.row_bytes, steps.part, writer.samples,
            )  # fmt: skip
    writer.release(steps.inputs, steps.state)
    if steps.carry is not None:
        writer.release(steps.carry)
    if y is None:
        return steps.hidden
    writer.release(steps.hidden)
    return y
