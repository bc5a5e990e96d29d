"""Activation functions as separate layers."""

from collections.abc import Sequence
from types import MappingProxyType

from typing_extensions import override

from flow_nexus_neural.networks.activations import ACTIVATIONS, check_softmax
from flow_nexus_neural.networks.arguments import FUNCTION, Real, optional, required
from flow_nexus_neural.networks.fixed_arguments import (
    LAST_AXIS,
    FixedArgument,
)
from flow_nexus_neural.networks.layer_type import (
    LayerSpec,
    SameShape,
    SequenceUse,
    Signal,
    WithoutTensors,
    WrittenLayer,
)
from flow_nexus_neural.networks.registry import register


@register
class ActivationType(WithoutTensors):
    """Any activation function."""

    name = "activation"
    arguments = (required("activation", FUNCTION),)
    sequence_use = SequenceUse.POINTWISE
    shorthands = MappingProxyType(
        {name: {"activation": name} for name in ("relu", "elu", "softmax")}
    )
    fixed_in_shorthands = MappingProxyType(
        {
            "relu": (
                FixedArgument("max_value"),
                FixedArgument("negative_slope", 0),
                FixedArgument("alpha", 0),
                FixedArgument("threshold", 0),
            ),
            "elu": (FixedArgument("alpha", 1),),
            "softmax": (LAST_AXIS,),
        }
    )
    can_give_logits = True

    @override
    def output(self, layer: LayerSpec, signal: Signal) -> Signal:
        """See `LayerType.output`."""
        check_softmax(layer.args["activation"], signal.width, layer.where)
        return signal

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return tuple({"type": "activation", "activation": name} for name in ACTIVATIONS)


@register
class LeakyReluType(SameShape, WithoutTensors):
    """Not a shorthand of `activation`: as a layer its slope is 0.3 in Keras, as an activation 0.2."""

    name = "leaky_relu"
    arguments = (optional("negative_slope", Real(0, 1), "alpha", default=0.3),)
    sequence_use = SequenceUse.POINTWISE

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return ({"type": "leaky_relu"},)
