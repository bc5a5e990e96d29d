"""From a plan to the text of a module and the places of its weights."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.protocol.plan import InputSpec, NetworkPlan
from flow_nexus_neural.wasm.compile.layers import EMITTERS
from flow_nexus_neural.wasm.compile.memory import Buffer
from flow_nexus_neural.wasm.compile.text import FLOAT_BYTES, times
from flow_nexus_neural.wasm.compile.writer import Constant, NotCompilable, Writer

BATCHES = (32, 8, 1)
"""Samples that one run may compute: the largest of them whose module stays within the memory limit."""
MAX_PAGES = 1024
"""64 MiB of 64 KiB pages."""


@dataclass(frozen=True)
class CompiledNetwork:
    """One network shape as a module.

    Attributes:
        text: The module in WebAssembly's text format: no imports, a memory that cannot grow, `run(n)`.
        max_batch: Most samples of one run.
        input_at: Address of the input, [n, row_width] float32 without gaps.
        row_width: Floats of a sample.
        output_at: Address of the output, [n, n_outputs] float32.
        output_row: Floats from a sample's output to the next.
        n_outputs: Outputs of a sample.
        pages: Of its memory.
        constants: What depends on the weights.
    """

    text: str
    max_batch: int
    input_at: int
    row_width: int
    output_at: int
    output_row: int
    n_outputs: int
    pages: int
    constants: tuple[Constant, ...]

    def fill(self, memory: NDArray[np.float32], tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Write the weights into a module's memory.

        Args:
            memory: All of it, as floats.
            tensors: By full name, in Keras' shapes.
        """
        for one in self.constants:
            start = one.at // FLOAT_BYTES
            memory[start : start + one.size] = one.fill(tensors).ravel()


def compile_network(plan: NetworkPlan) -> CompiledNetwork:
    """Write the module of a plan; it depends on the shape alone, not on the weights.

    Raises:
        NotCompilable: A layer type is not written here, or the memory would be too large.
    """
    missing = [layer for layer in plan.layers if layer.type not in EMITTERS]
    if missing:
        raise NotCompilable(f"layer type {missing[0].type!r} has no WebAssembly form")
    for max_batch in BATCHES:
        compiled = _compile(plan, max_batch)
        if compiled.pages <= MAX_PAGES:
            return compiled
    needed_mib = compiled.pages // 16
    raise NotCompilable(
        f"it needs {needed_mib} MiB of memory for a single record; the limit is {MAX_PAGES // 16} MiB"
    )


def _compile(plan: NetworkPlan, max_batch: int) -> CompiledNetwork:
    writer = Writer(max_batch)
    width = plan.input.flat_width
    input_at = writer.arena.take(width * FLOAT_BYTES * max_batch)
    writer.call("finite", input_at, times(writer.samples, width))
    x = _first(writer, plan, input_at)
    for layer in plan.layers:
        writer.begin(layer)
        if layer.take_last_step:
            x = x.last_step()
        x = EMITTERS[layer.type](writer, layer, x)
    x = writer.owned(x)
    if x.steps is not None or x.width != plan.n_outputs:
        raise NotCompilable(f"its last layer gives no vector of {plan.n_outputs} outputs")
    return CompiledNetwork(
        text=_module(writer, {"input": input_at, "output": x.at, "in_ld": width,
                              "out_ld": x.between_rows // FLOAT_BYTES, "max_batch": max_batch}),
        max_batch=max_batch,
        input_at=input_at,
        row_width=width,
        output_at=x.at,
        output_row=x.between_rows // FLOAT_BYTES,
        n_outputs=plan.n_outputs,
        pages=writer.arena.pages,
        constants=tuple(writer.constants),
    )  # fmt: skip


def _first(writer: Writer, plan: NetworkPlan, at: int) -> Buffer:
    """The network's input, made from stored rows: [n, width], or a sequence."""
    spec, row_bytes = plan.input, plan.input.flat_width * FLOAT_BYTES
    rows = Buffer(at, None, spec.flat_width, row_bytes, row_bytes, at)
    if plan.view == "flat":
        # A copy: layers may work in place or release their input, which keeps its place for good.
        return writer.copied(rows)
    return _sequence(writer, spec, rows)


def _sequence(writer: Writer, spec: InputSpec, rows: Buffer) -> Buffer:
    """[n, steps, channels]: a window as it is, else channel 0 is the vector and each scalar is repeated."""
    steps, channels = spec.sequence_shape
    x = writer.buffer(steps, channels)
    with writer.body.each(writer.samples) as i:
        to, source = writer.sample(x, i), writer.sample(rows, i)
        if spec.vector_length:
            writer.call("spread", to, x.row_bytes, source, steps, spec.n_scalars)
        else:
            row_bytes = channels * FLOAT_BYTES
            writer.call("copy_rows", to, x.row_bytes, source, row_bytes, row_bytes, steps)
    return x


def _module(writer: Writer, exported: Mapping[str, int]) -> str:
    pages = writer.arena.pages
    return "\n".join(
        [
            "(module",
            f'(memory (export "memory") {pages} {pages})',
            *(
                f'(global (export "{name}") i32 (i32.const {value}))'
                for name, value in exported.items()
            ),
            *writer.functions.values(),
            '(func (export "run") (param $n i32)',
            *writer.body.text.splitlines()[: len(writer.body.counters)],
            "(if (i32.le_s (local.get $n) (i32.const 0)) (then unreachable))",
            f"(if (i32.gt_s (local.get $n) (i32.const {writer.max_batch})) (then unreachable))",
            *writer.body.lines,
            "))",
        ]
    )
