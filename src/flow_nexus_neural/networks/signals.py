"""What flows between layers: the shape of one row, as far as it is known, and what each layer does to it.

The same walk serves twice: without the data (sizes unknown, only the order of layers is judged) and with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, cast

from pydantic import JsonValue

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.vocabulary import LayerSpec

_CORRECT = "Call neural_node_deploy again with a corrected list"


@dataclass(frozen=True, slots=True)
class Signal:
    """The shape of one row between two layers; None sizes are not known before the data is.

    Attributes:
        is_sequence: [steps, width] rather than [width].
        ended_by: The layer that turned the sequence into a flat vector; None when there was no sequence.
    """

    is_sequence: bool
    steps: int | None
    width: int | None
    ended_by: LayerSpec | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The known shape.

        Raises:
            ValueError: If a size is not known.
        """
        sizes = (self.steps, self.width) if self.is_sequence else (self.width,)
        if None in sizes:
            raise ValueError(f"shape is not known: {self}")
        return cast("tuple[int, ...]", sizes)

    def sequence(self, *, steps: int | None, width: int | None) -> "Signal":
        """The next signal, still a sequence."""
        return Signal(is_sequence=True, steps=steps, width=width)

    def flat(self, width: int | None, ended_by: LayerSpec) -> "Signal":
        """The next signal as a vector; remembers who ended a sequence."""
        ended = ended_by if self.is_sequence else self.ended_by
        return Signal(is_sequence=False, steps=None, width=width, ended_by=ended)

    def with_width(self, width: int | None) -> "Signal":
        """The next signal with another number of features."""
        return Signal(self.is_sequence, self.steps, width, self.ended_by)


def output_of(layer: LayerSpec, signal: Signal) -> Signal:
    """What `layer` makes of `signal`.

    Raises:
        InvalidArchitecture: If it needs a sequence and there is none, or its sizes do not fit.
    """
    if layer.kind.needs_sequence and not signal.is_sequence:
        raise _no_sequence(layer, signal)
    effect = _EFFECTS.get(layer.type)
    return signal if effect is None else effect(layer, signal)


def walk(layers: Sequence[LayerSpec], entry: Signal) -> list[Signal]:
    """The signal before every layer and, last, after all: one more than there are layers.

    Raises:
        InvalidArchitecture: As `output_of`, for the first layer that does not work.
    """
    signals = [entry]
    for layer in layers:
        signals.append(output_of(layer, signals[-1]))
    return signals


def integer(layer: LayerSpec, name: str) -> int:
    """An integer argument, which the vocabulary has already read as one."""
    return cast("int", layer.args[name])


def _no_sequence(layer: LayerSpec, signal: Signal) -> InvalidArchitecture:
    ender = signal.ended_by
    if ender is None:
        return InvalidArchitecture(f"{layer.where} needs a sequence", hint=_CORRECT)
    remedy = f"move it before {ender.type} or leave {ender.type} out"
    described = ender.where
    if ender.type == "bidirectional" or "return_sequences" in ender.args:
        described = f"layers[{ender.index}] ({ender.type}, return_sequences=false)"
        inside = " in its layer" if ender.type == "bidirectional" else ""
        remedy = f"set return_sequences: true{inside}"
    return InvalidArchitecture(
        f"{layer.where} needs a sequence but {described} ends it; {remedy}",
        hint=_CORRECT,
    )


def _dense(layer: LayerSpec, signal: Signal) -> Signal:
    units = integer(layer, "units")
    _check_softmax(layer, units)
    return signal.with_width(units)


def _check_softmax(layer: LayerSpec, width: int | None) -> None:
    if layer.args["activation"] == "softmax" and width == 1:
        raise InvalidArchitecture(
            f"{layer.where} softmax over 1 value is always 1 and cannot learn",
            hint="Use sigmoid for two classes, linear for a number, or one unit per class",
        )


def _activation(layer: LayerSpec, signal: Signal) -> Signal:
    _check_softmax(layer, signal.width)
    return signal


def _recurrent(layer: LayerSpec, signal: Signal) -> Signal:
    return _scanned(layer, signal, layer.args, integer(layer, "units"))


def _bidirectional(layer: LayerSpec, signal: Signal) -> Signal:
    inner = cast("Mapping[str, JsonValue]", layer.args["layer"])
    units = cast("int", inner["units"])
    return _scanned(
        layer, signal, inner, 2 * units if layer.args["merge_mode"] == "concat" else units
    )


def _scanned(layer: LayerSpec, signal: Signal, cell: Mapping[str, JsonValue], width: int) -> Signal:
    if cell["return_sequences"]:
        return signal.sequence(steps=signal.steps, width=width)
    return signal.flat(width, layer)


def _encoder(layer: LayerSpec, signal: Signal) -> Signal:
    heads, width = integer(layer, "heads"), signal.width
    if width is None or width % heads == 0:
        return signal
    fitting = [str(n) for n in range(1, min(width, 64) + 1) if width % n == 0]
    raise InvalidArchitecture(
        f"{layer.where} heads={heads} does not divide its width {width}",
        hint=f"Heads may be {', '.join(fitting[:8])}; or put a dense layer of another width before it",
    )


def _conv(layer: LayerSpec, signal: Signal) -> Signal:
    strides, dilation = integer(layer, "strides"), integer(layer, "dilation_rate")
    if strides > 1 and dilation > 1:
        raise InvalidArchitecture(
            f"{layer.where} strides={strides} and dilation_rate={dilation} exclude each other",
            hint="Set one of them to 1",
        )
    if layer.args["padding"] == "valid":
        window = dilation * (integer(layer, "kernel_size") - 1) + 1
        steps = _windows(layer, signal.steps, window, strides)
    else:
        steps = None if signal.steps is None else -(-signal.steps // strides)
    return signal.sequence(steps=steps, width=integer(layer, "filters"))


def _pooling(layer: LayerSpec, signal: Signal) -> Signal:
    window, strides = integer(layer, "pool_size"), integer(layer, "strides")
    return signal.sequence(steps=_windows(layer, signal.steps, window, strides), width=signal.width)


def _windows(layer: LayerSpec, steps: int | None, window: int, strides: int) -> int | None:
    """How many windows of `window` steps fit, `strides` apart."""
    if steps is None:
        return None
    if window > steps:
        raise InvalidArchitecture(
            f"{layer.where} spans {window} steps but its input has {steps}",
            hint="Use a smaller window, padding 'same' where there is one, or data with more steps",
        )
    return (steps - window) // strides + 1


def _graph(layer: LayerSpec, signal: Signal) -> Signal:
    return signal.with_width(integer(layer, "units"))


def _global_pooling(layer: LayerSpec, signal: Signal) -> Signal:
    return signal.flat(signal.width, layer)


def _flatten(layer: LayerSpec, signal: Signal) -> Signal:
    if not signal.is_sequence:
        return signal
    unknown = signal.steps is None or signal.width is None
    return signal.flat(None if unknown else prod(signal.shape), layer)


_EFFECTS: Final[dict[str, Callable[[LayerSpec, Signal], Signal]]] = {
    "dense": _dense,
    "activation": _activation,
    "lstm": _recurrent,
    "gru": _recurrent,
    "simple_rnn": _recurrent,
    "bidirectional": _bidirectional,
    "transformer_encoder": _encoder,
    "conv1d": _conv,
    "graph_conv": _graph,
    "max_pooling1d": _pooling,
    "average_pooling1d": _pooling,
    "global_average_pooling1d": _global_pooling,
    "global_max_pooling1d": _global_pooling,
    "flatten": _flatten,
}
"""Types that change the shape or can be refused; all others leave the signal as it is."""
