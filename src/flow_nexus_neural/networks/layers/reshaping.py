"""Layers that change the shape of their input and not its values."""

from collections.abc import Sequence
from math import prod

from typing_extensions import override

from flow_nexus_neural.networks.fixed_arguments import (
    LAST_CHANNELS,
)
from flow_nexus_neural.networks.layer_type import (
    LayerSpec,
    SequenceUse,
    Signal,
    WithoutTensors,
    WrittenLayer,
)
from flow_nexus_neural.networks.registry import register


@register
class FlattenType(WithoutTensors):
    """[steps, features] to one vector, steps first; a vector is unchanged."""

    name = "flatten"
    arguments = ()
    fixed_arguments = (LAST_CHANNELS,)
    sequence_use = SequenceUse.WHOLE

    @override
    def output(self, layer: LayerSpec, signal: Signal) -> Signal:
        """See `LayerType.output`."""
        if not signal.is_sequence:
            return signal
        unknown = signal.steps is None or signal.width is None
        return signal.flat(None if unknown else prod(signal.shape), layer)

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return ({"type": "flatten"},)
