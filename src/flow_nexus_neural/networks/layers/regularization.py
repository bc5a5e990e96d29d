"""Layers that add noise while training and return their input unchanged otherwise."""

from collections.abc import Sequence

from pydantic import JsonValue
from typing_extensions import override

from flow_nexus_neural.networks.arguments import RATE, Real, required
from flow_nexus_neural.networks.fixed_arguments import (
    SEED,
    FixedArgument,
)
from flow_nexus_neural.networks.layer_type import (
    Reading,
    SameShape,
    SequenceUse,
    WithoutTensors,
    WrittenLayer,
)
from flow_nexus_neural.networks.registry import register


class _RateType(SameShape, WithoutTensors):
    """A layer whose only argument is a rate."""

    arguments = (required("rate", RATE, "p"),)
    fixed_arguments = (SEED, FixedArgument("noise_shape"))

    @override
    def settle(self, values: dict[str, JsonValue], reading: Reading) -> None:
        """Warn about a rate that has no effect."""
        if values["rate"] == 0:
            reading.warn(f"{reading.where} with rate 0 does nothing")

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return ({"type": self.name, "rate": 0.1},)


@register
class DropoutType(_RateType):
    """Drops single elements."""

    name = "dropout"
    sequence_use = SequenceUse.POINTWISE


@register
class SpatialDropout1DType(_RateType):
    """Drops a channel in all steps of a row."""

    name = "spatial_dropout1d"
    sequence_use = SequenceUse.REQUIRED


@register
class GaussianNoiseType(SameShape, WithoutTensors):
    """Adds normal noise."""

    name = "gaussian_noise"
    arguments = (required("stddev", Real(0, 1)),)
    fixed_arguments = (SEED,)
    sequence_use = SequenceUse.POINTWISE

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return ({"type": "gaussian_noise", "stddev": 0.1},)
