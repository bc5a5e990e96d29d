"""Layers that change the shape of their input and not its values."""

from flow_nexus_neural.protocol.plan import PlannedLayer
from flow_nexus_neural.wasm.compile.memory import Buffer
from flow_nexus_neural.wasm.compile.registry import writes
from flow_nexus_neural.wasm.compile.text import FLOAT_BYTES
from flow_nexus_neural.wasm.compile.writer import Writer


@writes("flatten")
def flatten(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """[n, t, c] -> [n, t * c]: the same memory where rows have no padding, else a copy without it."""
    del layer
    if x.steps is None:
        return x
    steps, row = x.steps, x.width * FLOAT_BYTES
    if row == x.row_bytes:
        return Buffer(x.at, None, steps * x.width, x.row_bytes, x.sample_bytes, x.owner)
    y = writer.buffer(None, steps * x.width)
    with writer.body.each(writer.samples) as i:
        to, source = writer.sample(y, i), writer.sample(x, i)
        writer.call("copy_rows", to, row, source, x.row_bytes, row, steps)
    writer.release(x)
    return y
