"""Self-attention over the steps of a sequence: multi-head attention, encoder blocks, positions.

Each head has its own padded part of a row. Keys and values of one head and sample are packed as the weights
of a matrix product, so that scores and mixtures are made by the same kernel as everything else.
"""

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.protocol.plan import PlannedLayer
from flow_nexus_neural.wasm.compile.layers.dense import dense_part
from flow_nexus_neural.wasm.compile.layers.normalization import layer_norm
from flow_nexus_neural.wasm.compile.memory import PANEL, Buffer, padded
from flow_nexus_neural.wasm.compile.registry import integer, text, writes
from flow_nexus_neural.wasm.compile.text import FLOAT_BYTES, add, times
from flow_nexus_neural.wasm.compile.writer import Tensors, Writer

ENCODER_EPSILON = 1e-3
"""Epsilon of an encoder's layer norms, Keras' default."""


@writes("attention")
def attention(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """Multi-head self-attention; the last step alone where no other is read."""
    heads = _Heads(writer, x, "", (integer(layer.args, "heads"), integer(layer.args, "key_dim")))
    # The last step attends to all steps even under a causal mask.
    causal = bool(layer.args["causal"])
    y = heads.from_last() if layer.last_query_only else heads.of_all(causal=causal)
    writer.release(x)
    return y


@writes("transformer_encoder")
def transformer_encoder(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """Pre-norm encoder blocks; of the last one only the last step where no other is read."""
    depth = integer(layer.args, "depth")
    for number in range(depth):
        block = f"block{number}."
        kernel = next(t for t in layer.tensors if t.name.endswith(f"{block}attention.query_kernel"))
        normal = layer_norm(writer, x, f"{block}attention_norm.", ENCODER_EPSILON)
        heads = _Heads(writer, normal, f"{block}attention.", (kernel.shape[1], kernel.shape[2]))
        if layer.last_query_only and number == depth - 1:
            mixed = heads.from_last()
            last = writer.copied(x.last_step())
            writer.release(x)
            x = Buffer(last.at, 1, x.width, last.row_bytes, last.sample_bytes, last.owner)
        else:
            mixed = heads.of_all(causal=False)
        writer.release(normal)
        writer.apply("add", x, mixed)
        writer.release(mixed)
        _feed_forward(writer, layer, x, block)
    return x


def _feed_forward(writer: Writer, layer: PlannedLayer, x: Buffer, block: str) -> None:
    """`x += out(activation(in(norm(x))))`."""
    into = next(t for t in layer.tensors if t.name.endswith(f"{block}feed_forward_in.kernel"))
    normal = layer_norm(writer, x, f"{block}feed_forward_norm.", ENCODER_EPSILON)
    hidden = dense_part(writer, normal, into.shape[1], f"{block}feed_forward_in.")
    writer.activate(text(layer.args, "activation"), hidden)
    change = dense_part(writer, hidden, x.width, f"{block}feed_forward_out.")
    writer.apply("add", x, change)
    writer.release(normal, hidden, change)


class _Heads:
    """One attention over a buffer, which stays as it is."""

    def __init__(self, writer: Writer, x: Buffer, prefix: str, shape: tuple[int, int]) -> None:
        self.writer, self.x, self.prefix = writer, x, prefix
        self.heads, self.key_dim = shape
        self.part = padded(self.key_dim)
        """Floats of one head."""
        self.width = self.heads * self.part

    def _project(self, x: Buffer, name: str, scale: float = 1.0) -> Buffer:
        def kernel(parts: Tensors) -> NDArray[np.floating]:
            return self._by_heads(parts[f"{self.prefix}{name}_kernel"] * np.float64(scale))

        def bias(parts: Tensors) -> NDArray[np.floating]:
            return self._by_heads(parts[f"{self.prefix}{name}_bias"][None] * np.float64(scale))

        weights = self.writer.weights(x.width, self.width, kernel)
        return self.writer.product(x, self.width, weights, self.writer.vector(self.width, bias))

    def _by_heads(self, tensor: NDArray[np.floating]) -> NDArray[np.floating]:
        """[k, heads, key_dim] to [k, heads * padded key_dim]."""
        wide = np.zeros((len(tensor), self.heads, self.part), tensor.dtype)
        wide[:, :, : self.key_dim] = tensor
        return wide.reshape(len(tensor), -1)

    def _output(self, mixed: Buffer) -> Buffer:
        """The heads joined: a product in which padding meets zero rows."""
        width = self.x.width

        def kernel(parts: Tensors) -> NDArray[np.floating]:
            tensor = parts[f"{self.prefix}output_kernel"]  # [heads, key_dim, c]
            wide = np.zeros((self.heads, self.part, width), tensor.dtype)
            wide[:, : self.key_dim] = tensor
            return wide.reshape(self.width, width)

        bias = self.writer.vector(width, lambda parts: parts[f"{self.prefix}output_bias"])
        weights = self.writer.weights(self.width, width, kernel)
        y = self.writer.product(mixed, width, weights, bias, k=self.width)
        self.writer.release(mixed)
        return y

    def of_all(self, *, causal: bool) -> Buffer:
        """softmax(Q K^T / sqrt(key_dim)) V for every step."""
        writer, steps = self.writer, self.x.rows
        query = self._project(self.x, "query", self.key_dim**-0.5)
        key, value = self._project(self.x, "key"), self._project(self.x, "value")
        mixed = writer.buffer(steps, self.width)
        wide = padded(steps) * FLOAT_BYTES
        keys = writer.arena.take(wide * self.key_dim)
        values = writer.arena.take(steps * self.part * FLOAT_BYTES)
        scores = writer.arena.take(steps * wide)
        nothing = writer.zeros(max(steps, self.part))
        row, part = query.row_bytes, self.part * FLOAT_BYTES
        with writer.body.each(writer.samples) as i, writer.body.each(self.heads) as head:
            at = [
                add(writer.sample(one, i), times(head, part)) for one in (query, key, value, mixed)
            ]
            writer.call("pack_transposed", keys, at[1], row, self.key_dim, steps)
            writer.call("pack", values, at[2], row, steps, self.part // PANEL)
            writer.call(
                "matmul", at[0], row, keys, nothing, 0, scores, wide, steps, self.key_dim, 1, 0,
                padded(steps) // PANEL,
            )  # fmt: skip
            self._weigh(scores, wide, steps, causal=causal)
            writer.call(
                "matmul", scores, wide, values, nothing, 0, at[3], row, steps, steps, 1, 0,
                self.part // PANEL,
            )  # fmt: skip
        for address in (keys, values, scores):
            writer.arena.give_back(address)
        writer.release(query, key, value)
        return self._output(mixed)

    def _weigh(self, scores: int, row_bytes: int, steps: int, *, causal: bool) -> None:
        """Scores to weights; under a causal mask later steps have none."""
        writer = self.writer
        if not causal:
            writer.call("softmax", scores, row_bytes, steps, steps)
            return
        with writer.body.each(steps) as s:
            at, seen = add(times(s, row_bytes), scores), add(s, 1)
            writer.call("softmax", at, row_bytes, seen, 1)
            unseen = times(f"(i32.sub (i32.const {steps}) {seen})", FLOAT_BYTES)
            writer.body.zero(add(at, times(seen, FLOAT_BYTES)), unseen)

    def from_last(self) -> Buffer:
        """The last step only, [n, 1, c], without keys and values of every step.

        (W_k y + b_k) . q = y . (W_k^T q) + const, and the constant cancels in the softmax; and the weights
        average the inputs before W_v is applied.
        """
        writer, x = self.writer, self.x
        query = self._project(x.last_step(), "query", self.key_dim**-0.5)
        absorbed = writer.buffer(self.heads, x.width)  # W_k^T q of every head
        self._per_head("key", query, absorbed)
        context = writer.buffer(self.heads, x.width)
        self._contexts(absorbed, context)
        mixed = writer.buffer(None, self.width)
        self._per_head("value", context, mixed)
        writer.release(query, absorbed, context)
        y = self._output(mixed)
        return Buffer(y.at, 1, y.width, y.row_bytes, y.sample_bytes, y.owner)

    def _per_head(self, name: str, x: Buffer, y: Buffer) -> None:
        """A product of its own for every head: `key` transposed and without bias, or `value`."""
        writer, width, part = self.writer, self.x.width, self.part * FLOAT_BYTES
        is_key = name == "key"
        k, n = (self.key_dim, width) if is_key else (width, self.key_dim)
        for head in range(self.heads):

            def kernel(parts: Tensors, head: int = head) -> NDArray[np.floating]:
                tensor = parts[f"{self.prefix}{name}_kernel"][:, head]
                return tensor.T if is_key else tensor

            def bias(parts: Tensors, head: int = head) -> NDArray[np.floating]:
                return np.zeros(n) if is_key else parts[f"{self.prefix}{name}_bias"][head]

            source, to = (part, y.row_bytes) if is_key else (x.row_bytes, part)
            writer.call(
                "matmul", x.at + head * source, x.sample_bytes, writer.weights(k, n, kernel),
                writer.vector(n, bias), 0, y.at + head * to, y.sample_bytes, writer.samples, k, 1, 0,
                padded(n) // PANEL,
            )  # fmt: skip

    def _contexts(self, absorbed: Buffer, context: Buffer) -> None:
        """For every sample the inputs averaged by each head's weights, [heads, c]."""
        writer, x, steps = self.writer, self.x, self.x.rows
        wide = padded(steps) * FLOAT_BYTES
        turned = writer.arena.take(wide * x.width)
        packed = writer.arena.take(steps * padded(x.width) * FLOAT_BYTES)
        scores = writer.arena.take(self.heads * wide)
        nothing = writer.zeros(max(steps, x.width))
        panels = padded(x.width) // PANEL
        with writer.body.each(writer.samples) as i:
            source = writer.sample(x, i)
            writer.call("pack_transposed", turned, source, x.row_bytes, x.width, steps)
            writer.call("pack", packed, source, x.row_bytes, steps, panels)
            writer.call(
                "matmul", writer.sample(absorbed, i), absorbed.row_bytes, turned, nothing, 0, scores,
                wide, self.heads, x.width, 1, 0, padded(steps) // PANEL,
            )  # fmt: skip
            writer.call("softmax", scores, wide, steps, self.heads)
            writer.call(
                "matmul", scores, wide, packed, nothing, 0, writer.sample(context, i),
                context.row_bytes, self.heads, steps, 1, 0, panels,
            )  # fmt: skip
        for address in (turned, packed, scores):
            writer.arena.give_back(address)


@writes("positional_encoding")
def positional_encoding(writer: Writer, layer: PlannedLayer, x: Buffer) -> Buffer:
    """Adds the sinusoidal code of each step's position."""
    del layer
    steps, row = x.rows, x.row_bytes
    codes = sinusoids(steps, x.width)
    pad = ((0, 0), (0, padded(x.width) - x.width))
    table = writer.fixed(np.pad(codes, pad))
    with writer.body.each(writer.samples) as i:
        writer.call("add", writer.sample(x, i), row, table, row, x.vectors, steps)
    return x


def sinusoids(steps: int, width: int) -> NDArray[np.float32]:
    """[steps, width]: sin(p / 10000^(2i / width)) in even columns 2i, cos of the same in odd ones."""
    pairs = np.arange(width) // 2
    angle = np.arange(steps)[:, None] / np.power(10_000.0, 2.0 * pairs / width)
    even = np.arange(width) % 2 == 0
    return np.where(even, np.sin(angle), np.cos(angle)).astype(np.float32)
