"""Recurrent layers, and the wrapper that runs one in both directions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Final, cast

from pydantic import JsonValue
from typing_extensions import override

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.arguments import (
    RATE,
    UNITS,
    Argument,
    Choice,
    Flag,
    Nested,
    activation,
    optional,
    required,
)
from flow_nexus_neural.networks.fixed_arguments import (
    KERNEL_AND_BIAS,
    SEED,
    FixedArgument,
    IgnoredArgument,
    InitializerArgument,
    none_of,
)
from flow_nexus_neural.networks.layer_type import (
    LayerSpec,
    LayerType,
    Reading,
    SequenceUse,
    Signal,
    WrittenLayer,
)
from flow_nexus_neural.networks.registry import register
from flow_nexus_neural.networks.tensors import LayerTensor, under
from flow_nexus_neural.protocol.plan import Initializer


def _cell_arguments(*, gated: bool) -> tuple[Argument, ...]:
    gates = (activation("sigmoid", "recurrent_activation"),) if gated else ()
    return (
        required("units", UNITS),
        optional("return_sequences", Flag(), default=False),
        activation("tanh"),
        *gates,
        optional("dropout", RATE, default=0.0),
        optional("go_backwards", Flag(), default=False),
    )


_FIXED_IN_CELLS: Final = (
    FixedArgument("use_bias", default=True),
    *KERNEL_AND_BIAS,
    InitializerArgument("recurrent_initializer", "orthogonal"),
    *none_of("recurrent"),
    FixedArgument("recurrent_dropout", 0),
    FixedArgument("return_state", default=False),
    FixedArgument("stateful", default=False),
    IgnoredArgument("zero_output_for_mask"),  # no step is ever masked
    FixedArgument("time_major", default=False),
    IgnoredArgument("unroll"),
    IgnoredArgument("implementation"),
    IgnoredArgument("use_cudnn"),
    SEED,
)


class CellType(LayerType):
    """A recurrent layer: kernel [in, gates * u], recurrent_kernel [u, gates * u] and a bias.

    Attributes:
        gates: Number of gate blocks in the kernels.
        biases: Rows of the bias; with one row the bias has no row axis.
        bias_init: Initialiser of the bias.
    """

    fixed_arguments = _FIXED_IN_CELLS
    sequence_use = SequenceUse.REQUIRED
    gates: ClassVar[int]
    biases: ClassVar[int] = 1
    bias_init: ClassVar[Initializer] = "zeros"

    @override
    def output(self, layer: LayerSpec, signal: Signal) -> Signal:
        """See `LayerType.output`."""
        return _scanned(layer, signal, layer.args, layer.integer("units"))

    @override
    def tensors(self, layer: LayerSpec, width: int) -> Iterable[LayerTensor]:
        """See `LayerType.tensors`."""
        return self.cell_tensors(width, layer.integer("units"))

    @override
    def ended_sequence(self, layer: LayerSpec) -> tuple[str, str]:
        """See `LayerType.ended_sequence`."""
        return _gives_last_step_only(layer), "set return_sequences: true"

    def cell_tensors(self, width: int, units: int) -> Iterator[LayerTensor]:
        """The tensors of one direction."""
        columns = self.gates * units
        yield LayerTensor("kernel", (width, columns), "glorot_uniform")
        yield LayerTensor("recurrent_kernel", (units, columns), "orthogonal")
        bias = (columns,) if self.biases == 1 else (self.biases, columns)
        yield LayerTensor("bias", bias, self.bias_init)


@register
class LstmType(CellType):
    """Gates i, f, c, o; the bias of the forget gate starts at 1."""

    name = "lstm"
    arguments = _cell_arguments(gated=True)
    fixed_arguments = (*_FIXED_IN_CELLS, FixedArgument("unit_forget_bias", default=True))
    gates = 4
    bias_init: ClassVar[Initializer] = "lstm_bias"

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        # Default activations run in torch's own kernel, others step by step: the warm-up needs both.
        return (
            {"type": "lstm", "units": 4, "return_sequences": True, "dropout": 0.1},
            {"type": "lstm", "units": 4, "activation": "relu"},
        )


@register
class GruType(CellType):
    """Gates z, r, h; one bias row each for input and state; the reset gate follows the matrix product."""

    name = "gru"
    arguments = _cell_arguments(gated=True)
    fixed_arguments = (*_FIXED_IN_CELLS, FixedArgument("reset_after", default=True))
    gates = 3
    biases = 2

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return (
            {"type": "gru", "units": 4, "return_sequences": True, "go_backwards": True},
            {"type": "gru", "units": 4, "activation": "elu"},
        )


@register
class SimpleRnnType(CellType):
    """The plain recurrence, without gates."""

    name = "simple_rnn"
    aliases = ("rnn",)
    arguments = _cell_arguments(gated=False)
    gates = 1

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return (
            {"type": "simple_rnn", "units": 4, "return_sequences": True},
            {"type": "simple_rnn", "units": 4, "activation": "relu"},
            {"type": "simple_rnn", "units": 4, "activation": "selu"},
        )


_BOTH_WAYS: Final[dict[str, CellType]] = {
    LstmType.name: LstmType(),
    GruType.name: GruType(),
}
"""Layer types that may run in both directions."""


@register
class BidirectionalType(LayerType):
    """Tensors: forward.* then backward.*, each as the inner layer's."""

    name = "bidirectional"
    arguments = (
        required("layer", Nested()),
        optional("merge_mode", Choice(("concat", "sum", "mul", "ave")), default="concat"),
    )
    sequence_use = SequenceUse.REQUIRED

    @override
    def settle(self, values: dict[str, JsonValue], reading: Reading) -> None:
        """Parse the inner layer; its type is stored among its arguments."""
        where = f"{reading.where} layer"
        inner, given = reading.inner(values["layer"], where)
        if inner.name not in _BOTH_WAYS:
            raise InvalidArchitecture(
                f"{where} type '{inner.name}' cannot run both ways",
                hint="The inner layer is lstm or gru, for example {'type': 'lstm', 'units': 64}",
            )
        if given["go_backwards"]:
            raise InvalidArchitecture(
                f"{where} {inner.name} go_backwards=true contradicts bidirectional",
                hint="Leave go_backwards out: bidirectional already reads both ways",
            )
        for common in ("name", "trainable"):
            if given.pop(common) not in (None, True):
                raise InvalidArchitecture(
                    f"{where} {inner.name}: '{common}' belongs to the outer layer",
                    hint=f"Give '{common}' beside 'layer'",
                )
        values["layer"] = {"type": inner.name, **given}

    @override
    def output(self, layer: LayerSpec, signal: Signal) -> Signal:
        """See `LayerType.output`."""
        inner = _inner(layer)
        units = cast("int", inner["units"])
        width = 2 * units if layer.args["merge_mode"] == "concat" else units
        return _scanned(layer, signal, inner, width)

    @override
    def tensors(self, layer: LayerSpec, width: int) -> Iterable[LayerTensor]:
        """See `LayerType.tensors`."""
        inner = _inner(layer)
        cell, units = _BOTH_WAYS[str(inner["type"])], cast("int", inner["units"])
        for direction in ("forward", "backward"):
            yield from under(direction, cell.cell_tensors(width, units))

    @override
    def ended_sequence(self, layer: LayerSpec) -> tuple[str, str]:
        """See `LayerType.ended_sequence`."""
        return _gives_last_step_only(layer), "set return_sequences: true in its layer"

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        lstm: WrittenLayer = {"type": "lstm", "units": 2, "return_sequences": True}
        return (
            {"type": "bidirectional", "layer": lstm, "merge_mode": "ave"},
            {"type": "bidirectional", "layer": {"type": "gru", "units": 2}},
        )


def _inner(layer: LayerSpec) -> Mapping[str, JsonValue]:
    return cast("Mapping[str, JsonValue]", layer.args["layer"])


def _gives_last_step_only(layer: LayerSpec) -> str:
    return f"layers[{layer.index}] ({layer.type}, return_sequences=false)"


def _scanned(layer: LayerSpec, signal: Signal, cell: Mapping[str, JsonValue], width: int) -> Signal:
    """Shape of the outputs of all steps, or of the last step."""
    if cell["return_sequences"]:
        return signal.sequence(steps=signal.steps, width=width)
    return signal.flat(width, layer)
