"""The fully connected layer."""

from collections.abc import Iterable, Sequence

from typing_extensions import override

from flow_nexus_neural.networks.activations import check_softmax
from flow_nexus_neural.networks.arguments import UNITS, Flag, activation, optional, required
from flow_nexus_neural.networks.fixed_arguments import (
    KERNEL_AND_BIAS,
    FixedArgument,
)
from flow_nexus_neural.networks.layer_type import (
    LayerSpec,
    LayerType,
    SequenceUse,
    Signal,
    WrittenLayer,
)
from flow_nexus_neural.networks.registry import register
from flow_nexus_neural.networks.tensors import LayerTensor, kernel_and_bias


@register
class DenseType(LayerType):
    """Tensors: kernel [in, units], bias [units] unless use_bias is false."""

    name = "dense"
    aliases = ("linear", "output", "hidden", "feed_forward")
    arguments = (
        required("units", UNITS, "size", "dim", "num_classes"),
        activation("linear"),
        optional("use_bias", Flag(), default=True),
    )
    fixed_arguments = (
        *KERNEL_AND_BIAS,
        FixedArgument("quantization_config"),
        FixedArgument("lora_rank"),
    )
    sequence_use = SequenceUse.POINTWISE
    can_give_logits = True

    @override
    def output(self, layer: LayerSpec, signal: Signal) -> Signal:
        """See `LayerType.output`."""
        units = layer.integer("units")
        check_softmax(layer.args["activation"], units, layer.where)
        return signal.with_width(units)

    @override
    def tensors(self, layer: LayerSpec, width: int) -> Iterable[LayerTensor]:
        """See `LayerType.tensors`."""
        use_bias = layer.args["use_bias"] is True
        return kernel_and_bias(width, layer.integer("units"), use_bias=use_bias)

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return (
            {"type": "dense", "units": 4, "activation": "relu"},
            {"type": "dense", "units": 3, "use_bias": False},
        )
