"""Pooling over the steps of a sequence, per window or over all steps."""

from collections.abc import Sequence

from pydantic import JsonValue
from typing_extensions import override

from flow_nexus_neural.networks.arguments import SPAN, optional
from flow_nexus_neural.networks.fixed_arguments import (
    LAST_CHANNELS,
    FixedArgument,
)
from flow_nexus_neural.networks.layer_type import (
    LayerSpec,
    Reading,
    SequenceUse,
    Signal,
    WithoutTensors,
    WrittenLayer,
)
from flow_nexus_neural.networks.registry import register
from flow_nexus_neural.networks.windows import count_windows


class _WindowPoolingType(WithoutTensors):
    """One value per feature for each window of steps; an incomplete last window is dropped."""

    arguments = (
        optional("pool_size", SPAN, default=2),
        optional("strides", SPAN, default=None),
    )
    fixed_arguments = (LAST_CHANNELS, FixedArgument("padding", "valid"))
    sequence_use = SequenceUse.REQUIRED

    @override
    def settle(self, values: dict[str, JsonValue], reading: Reading) -> None:
        """Set missing strides to the pool size, as Keras does."""
        if values["strides"] is None:
            values["strides"] = values["pool_size"]

    @override
    def output(self, layer: LayerSpec, signal: Signal) -> Signal:
        """See `LayerType.output`."""
        window, strides = layer.integer("pool_size"), layer.integer("strides")
        steps = count_windows(signal.steps, window, strides, layer.where)
        return signal.sequence(steps=steps, width=signal.width)

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return ({"type": self.name}, {"type": self.name, "pool_size": 2, "strides": 1})


@register
class MaxPooling1DType(_WindowPoolingType):
    """The largest value of each window."""

    name = "max_pooling1d"
    aliases = ("maxpool1d",)


@register
class AveragePooling1DType(_WindowPoolingType):
    """The mean of each window."""

    name = "average_pooling1d"
    aliases = ("avgpool1d",)


class _GlobalPoolingType(WithoutTensors):
    """One value per feature for all steps."""

    arguments = ()
    fixed_arguments = (LAST_CHANNELS, FixedArgument("keepdims", default=False))
    sequence_use = SequenceUse.REQUIRED

    @override
    def output(self, layer: LayerSpec, signal: Signal) -> Signal:
        """See `LayerType.output`."""
        return signal.flat(signal.width, layer)

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return ({"type": self.name},)


@register
class GlobalAveragePooling1DType(_GlobalPoolingType):
    """The mean over all steps."""

    name = "global_average_pooling1d"
    aliases = ("pooling", "global_average")


@register
class GlobalMaxPooling1DType(_GlobalPoolingType):
    """The maximum over all steps."""

    name = "global_max_pooling1d"
    aliases = ("global_max",)
