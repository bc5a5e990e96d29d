"""Batch and layer normalisation."""

import numpy as np

from flow_nexus_neural.protocol.plan import PlannedLayer
from flow_nexus_neural.wasm.compile.memory import Buffer, padded
from flow_nexus_neural.wasm.compile.registry import number, writes
from flow_nexus_neural.wasm.compile.text import FLOAT_BYTES
from flow_nexus_neural.wasm.compile.writer import Tensors, Writer


@writes("batch_normalization")
def batch_normalization(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """`(x - moving mean) * scale + beta`; subtracted first, since a folded shift would cancel digits."""
    epsilon, x = number(layer.args, "epsilon"), writer.owned(x)

    def scale(parts: Tensors) -> np.ndarray:
        variance = parts["moving_variance"].astype(np.float64)
        return parts["gamma"] / np.sqrt(variance + epsilon)

    mean = writer.vector(x.width, lambda parts: parts["moving_mean"])
    factor = writer.vector(x.width, scale)
    shift = writer.vector(x.width, lambda parts: parts["beta"])
    rows, place = writer.rows(x), (x.at, x.between_rows)
    writer.call("normalise", *place, *place, mean, factor, shift, x.vectors, rows)
    return x


@writes("layer_normalization")
def layer_normalization(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """Each position normalised over its features."""
    y = layer_norm(writer, x, "", number(layer.args, "epsilon"))
    writer.release(x)
    return y


def layer_norm(writer: Writer, x: Buffer, prefix: str, epsilon: float) -> Buffer:
    """The same with the tensors `<prefix>gamma` and `<prefix>beta`, as a new buffer."""
    y = writer.buffer(x.steps, x.width)
    gamma = writer.vector(x.width, lambda parts: parts[f"{prefix}gamma"])
    beta = writer.vector(x.width, lambda parts: parts[f"{prefix}beta"])
    small = writer.fixed(np.array([epsilon]))
    scratch = writer.arena.take(padded(x.width) * FLOAT_BYTES)
    writer.call(
        "layer_norm", y.at, y.between_rows, x.at, x.between_rows, x.width, writer.rows(x),
        gamma, beta, small, scratch,
    )  # fmt: skip
    writer.arena.give_back(scratch)
    return y
