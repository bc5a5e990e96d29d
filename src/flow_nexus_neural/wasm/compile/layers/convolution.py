"""Convolution and graph convolution over the steps of a sequence."""

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.protocol.plan import PlannedLayer
from flow_nexus_neural.wasm.compile.layers.dense import dense_part
from flow_nexus_neural.wasm.compile.memory import PANEL, Buffer, padded
from flow_nexus_neural.wasm.compile.registry import integer, text, writes
from flow_nexus_neural.wasm.compile.text import FLOAT_BYTES, add
from flow_nexus_neural.wasm.compile.writer import Tensors, Writer


@writes("conv1d")
def conv1d(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """A product over the taps of a kernel, step by step.

    Where steps lie beyond the ends, each sample is copied between zeros first.
    """
    args = layer.args
    size, strides = integer(args, "kernel_size"), integer(args, "strides")
    dilation = integer(args, "dilation_rate")
    before, after = _padding(text(args, "padding"), x.rows, (size - 1) * dilation, strides)
    filters, width = layer.out_shape[-1], x.width
    weights = writer.weights(
        size * width, filters, lambda parts: parts["kernel"].reshape(size * width, filters)
    )
    bias = writer.vector(filters, lambda parts: parts["bias"])
    y = writer.buffer(layer.out_shape[0], filters)
    framed_bytes = (before + x.rows + after) * x.row_bytes
    framed = writer.arena.take(framed_bytes) if before or after else None
    if framed is not None:
        writer.body.zero(framed, framed_bytes)
    with writer.body.each(writer.samples) as i:
        source = writer.sample(x, i)
        if framed is not None:
            writer.body.copy(framed + before * x.row_bytes, source, x.sample_bytes)
        writer.call(
            "matmul", source if framed is None else framed, strides * x.row_bytes, weights, bias, 0,
            writer.sample(y, i), y.row_bytes, y.rows, width, size, dilation * x.row_bytes,
            padded(filters) // PANEL,
        )  # fmt: skip
    if framed is not None:
        writer.arena.give_back(framed)
    writer.release(x)
    writer.activate(text(args, "activation"), y)
    return y


def _padding(kind: str, steps: int, reach: int, strides: int) -> tuple[int, int]:
    """Zero steps before and after; an odd one of `same` goes after, as in Keras."""
    if kind == "valid":
        return 0, 0
    if kind == "causal":
        return reach, 0
    total = max((-(-steps // strides) - 1) * strides + reach + 1 - steps, 0)
    return total // 2, total - total // 2


@writes("graph_conv")
def graph_conv(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """`activation(A H W + b)`, with the product by A on the side with fewer channels."""
    units, steps = layer.out_shape[-1], x.rows
    adjacency = band_adjacency(steps, integer(layer.args, "hops"))
    across = writer.fixed(np.pad(adjacency, ((0, 0), (0, padded(steps) - steps))))
    if x.width < units:
        mixed = _mixed(writer, x, across, writer.zeros(x.width))
        y = dense_part(writer, mixed, units, "")
        writer.release(mixed)
    else:
        nothing = writer.zeros(units)
        weights = writer.weights(x.width, units, _kernel)
        projected = writer.product(x, units, weights, nothing)
        y = _mixed(writer, projected, across, writer.vector(units, lambda parts: parts["bias"]))
        writer.release(projected)
    writer.release(x)
    writer.activate(text(layer.args, "activation"), y)
    return y


def _kernel(parts: Tensors) -> NDArray[np.floating]:
    return parts["kernel"]


def _mixed(writer: Writer, x: Buffer, across: int, init: int) -> Buffer:
    """`A x + init` of every sample; A lies row by row, each padded."""
    y, steps = writer.buffer(x.steps, x.width), x.rows
    panels = padded(x.width) // PANEL
    packed = writer.arena.take(steps * padded(x.width) * FLOAT_BYTES)
    with writer.body.each(writer.samples) as i:
        writer.call("pack", packed, writer.sample(x, i), x.row_bytes, steps, panels)
        writer.call(
            "matmul", across, padded(steps) * FLOAT_BYTES, packed, init, 0, add(writer.sample(y, i)),
            y.row_bytes, steps, steps, 1, 0, panels,
        )  # fmt: skip
    writer.arena.give_back(packed)
    return y


def band_adjacency(steps: int, hops: int) -> NDArray[np.float32]:
    """[steps, steps]: D^-1/2 (A + I) D^-1/2 of the graph in which steps at most `hops` apart are joined."""
    position = np.arange(steps)
    joined = (np.abs(position[:, None] - position[None, :]) <= hops).astype(np.float64)
    scale = 1 / np.sqrt(joined.sum(1))
    normal: NDArray[np.float64] = scale[:, None] * joined * scale[None, :]
    return normal.astype(np.float32)
