"""The fully connected layer."""

import numpy as np

from flow_nexus_neural.protocol.plan import PlannedLayer
from flow_nexus_neural.wasm.compile.memory import Buffer
from flow_nexus_neural.wasm.compile.registry import text, writes
from flow_nexus_neural.wasm.compile.writer import Tensors, Writer


@writes("dense")
def dense(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """`activation(x W + b)` on the last axis."""
    units = layer.out_shape[-1]
    y = dense_part(writer, x, units, "")
    writer.release(x)
    writer.activate(text(layer.args, "activation"), y)
    return y


def dense_part(writer: Writer, x: Buffer, units: int, prefix: str) -> Buffer:
    """`x W + b` with the tensors `<prefix>kernel` and `<prefix>bias`, zeros where there is no bias."""
    zeros = np.zeros(units, np.float32)

    def bias(parts: Tensors) -> np.ndarray:
        return parts.get(f"{prefix}bias", zeros)

    weights = writer.weights(x.width, units, lambda parts: parts[f"{prefix}kernel"])
    return writer.product(x, units, weights, writer.vector(units, bias))
