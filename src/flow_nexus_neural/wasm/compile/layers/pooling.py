"""Pooling over the steps of a sequence."""

from flow_nexus_neural.protocol.plan import PlannedLayer
from flow_nexus_neural.wasm.compile.memory import Buffer
from flow_nexus_neural.wasm.compile.registry import integer, writes
from flow_nexus_neural.wasm.compile.writer import Writer

KERNEL = {
    "max_pooling1d": "max_pool",
    "average_pooling1d": "mean_pool",
    "global_max_pooling1d": "max_pool",
    "global_average_pooling1d": "mean_pool",
}


@writes("max_pooling1d", "average_pooling1d")
def windows(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """Windows of steps to steps; an incomplete last window is dropped."""
    window = integer(layer.args, "pool_size")
    strides = window if layer.args.get("strides") is None else integer(layer.args, "strides")
    return _pooled(writer, layer, x, writer.buffer(layer.out_shape[0], x.width), (window, strides))


@writes("global_max_pooling1d", "global_average_pooling1d")
def over_all(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """All steps to one vector."""
    return _pooled(writer, layer, x, writer.buffer(None, x.width), (x.rows, 1))


def _pooled(
    writer: Writer, layer: PlannedLayer, x: Buffer, y: Buffer, span: tuple[int, int]
) -> Buffer:
    window, strides = span
    with writer.body.each(writer.samples) as i:
        writer.call(
            KERNEL[layer.type], writer.sample(y, i), y.row_bytes, writer.sample(x, i), x.row_bytes,
            strides * x.row_bytes, window, x.vectors, y.rows,
        )  # fmt: skip
    writer.release(x)
    return y
