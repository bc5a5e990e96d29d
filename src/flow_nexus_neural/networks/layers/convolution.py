"""Convolution over the steps of a sequence, and over a band graph of the steps."""

from collections.abc import Iterable, Sequence

from typing_extensions import override

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.arguments import (
    SPAN,
    UNITS,
    Choice,
    activation,
    optional,
    required,
)
from flow_nexus_neural.networks.fixed_arguments import (
    KERNEL_AND_BIAS,
    LAST_CHANNELS,
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
from flow_nexus_neural.networks.windows import count_windows


@register
class Conv1DType(LayerType):
    """Tensors: kernel [kernel_size, in, filters], bias [filters]."""

    name = "conv1d"
    aliases = ("conv",)
    arguments = (
        required("filters", UNITS),
        required("kernel_size", SPAN),
        optional("strides", SPAN, default=1),
        optional("padding", Choice(("valid", "same", "causal")), default="valid"),
        optional("dilation_rate", SPAN, default=1),
        activation("linear"),
    )
    fixed_arguments = (
        LAST_CHANNELS,
        FixedArgument("groups", 1),
        FixedArgument("use_bias", default=True),
        *KERNEL_AND_BIAS,
    )
    sequence_use = SequenceUse.REQUIRED

    @override
    def output(self, layer: LayerSpec, signal: Signal) -> Signal:
        """See `LayerType.output`."""
        strides, dilation = layer.integer("strides"), layer.integer("dilation_rate")
        if strides > 1 and dilation > 1:
            raise InvalidArchitecture(
                f"{layer.where} strides={strides} and dilation_rate={dilation} exclude each other",
                hint="Set one of them to 1",
            )
        if layer.args["padding"] == "valid":
            window = dilation * (layer.integer("kernel_size") - 1) + 1
            steps = count_windows(signal.steps, window, strides, layer.where)
        else:
            steps = None if signal.steps is None else -(-signal.steps // strides)
        return signal.sequence(steps=steps, width=layer.integer("filters"))

    @override
    def tensors(self, layer: LayerSpec, width: int) -> Iterable[LayerTensor]:
        """See `LayerType.tensors`."""
        filters = layer.integer("filters")
        kernel = (layer.integer("kernel_size"), width, filters)
        yield LayerTensor("kernel", kernel, "glorot_uniform")
        yield LayerTensor("bias", (filters,), "zeros")

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return (
            {"type": "conv1d", "filters": 4, "kernel_size": 3, "activation": "relu"},
            {"type": "conv1d", "filters": 4, "kernel_size": 3, "padding": "same", "strides": 2},
            {
                "type": "conv1d",
                "filters": 4,
                "kernel_size": 2,
                "padding": "causal",
                "dilation_rate": 2,
            },
        )


@register
class GraphConvType(LayerType):
    """H' = activation(A H W + b) (Kipf and Welling 2017).

    A is the symmetrically normalised band graph |i - j| <= hops over the steps, self-loops included.
    Tensors: kernel [in, units], bias [units].
    """

    name = "graph_conv"
    aliases = ("gnn", "gcn")
    arguments = (
        required("units", UNITS),
        optional("hops", SPAN, default=2),
        activation("relu"),
    )
    sequence_use = SequenceUse.REQUIRED

    @override
    def output(self, layer: LayerSpec, signal: Signal) -> Signal:
        """See `LayerType.output`."""
        return signal.with_width(layer.integer("units"))

    @override
    def tensors(self, layer: LayerSpec, width: int) -> Iterable[LayerTensor]:
        """See `LayerType.tensors`."""
        return kernel_and_bias(width, layer.integer("units"))

    @override
    def examples(self) -> Sequence[WrittenLayer]:
        """See `LayerType.examples`."""
        return ({"type": "graph_conv", "units": 2}, {"type": "graph_conv", "units": 6})
