"""Activation functions as separate layers."""

from flow_nexus_neural.protocol.plan import PlannedLayer
from flow_nexus_neural.wasm.compile.kernels.activations import leaky
from flow_nexus_neural.wasm.compile.memory import Buffer
from flow_nexus_neural.wasm.compile.registry import number, text, writes
from flow_nexus_neural.wasm.compile.writer import Writer


@writes("activation")
def activation(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """An activation function of every element."""
    x = writer.owned(x)
    writer.activate(text(layer.args, "activation"), x)
    return x


@writes("leaky_relu")
def leaky_relu(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """`x` above 0, `slope * x` below."""
    x = writer.owned(x)
    name = f"leaky_{layer.index}"
    slope = leaky(number(layer.args, "negative_slope"))
    writer.map_at(name, slope, x.at, x.between_rows, x.width, writer.rows(x))
    return x
