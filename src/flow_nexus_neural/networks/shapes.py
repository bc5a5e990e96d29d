"""Shape inference: the input and output shape of each layer of a list.

It runs twice: without the data, when sizes are unknown and only the order of layers is checked, and with it.
"""

from collections.abc import Sequence

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.layer_type import LayerSpec, Signal

_CORRECT = "Call neural_node_deploy again with a corrected list"


def walk(layers: Sequence[LayerSpec], entry: Signal) -> list[Signal]:
    """The shape before each layer, and last the shape after all: one more than there are layers.

    Raises:
        InvalidArchitecture: As `output_of`, for the first layer that does not fit.
    """
    signals = [entry]
    for layer in layers:
        signals.append(output_of(layer, signals[-1]))
    return signals


def output_of(layer: LayerSpec, signal: Signal) -> Signal:
    """The output shape of `layer` for the input shape `signal`.

    Raises:
        InvalidArchitecture: If the layer needs a sequence and gets a vector, or its sizes do not fit.
    """
    if layer.kind.needs_sequence and not signal.is_sequence:
        raise _no_sequence(layer, signal)
    return layer.kind.output(layer, signal)


def _no_sequence(layer: LayerSpec, signal: Signal) -> InvalidArchitecture:
    ender = signal.ended_by
    if ender is None:
        return InvalidArchitecture(f"{layer.where} needs a sequence", hint=_CORRECT)
    described, remedy = ender.kind.ended_sequence(ender)
    return InvalidArchitecture(
        f"{layer.where} needs a sequence but {described} ends it; {remedy}",
        hint=_CORRECT,
    )
