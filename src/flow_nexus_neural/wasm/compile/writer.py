"""Writes one module: memory, constants, kernels that are used, and the statements of `run`.

The operations here are those of which layers are made: products, activations, copies. Each takes and gives
`Buffer`s of the whole batch; `run` is straight-line code over kernels with constant addresses.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.protocol.plan import PlannedLayer
from flow_nexus_neural.wasm.compile.kernels.activations import (
    FUNCTIONS,
    SOFTMAX,
    Function,
    map_kernel,
)
from flow_nexus_neural.wasm.compile.kernels.matmul import MATMUL
from flow_nexus_neural.wasm.compile.kernels.rows import KERNELS, NEEDS
from flow_nexus_neural.wasm.compile.memory import PANEL, Arena, Buffer, padded
from flow_nexus_neural.wasm.compile.text import FLOAT_BYTES, Body, Expression, add, local, times

Floats = NDArray[np.float32]
Tensors = Mapping[str, Floats]
"""A layer's tensors by part name, or a network's by full name."""
Fill = Callable[[Tensors], NDArray[np.floating]]
LINEAR: Final = "linear"


class NotCompilable(ValueError):
    """A network that has no module, and the layer or limit that is the reason."""


@dataclass(frozen=True)
class Constant:
    """A region of memory that depends on the weights.

    Attributes:
        at: Byte address.
        size: Floats.
        fill: From a network's tensors by full name to its content.
    """

    at: int
    size: int
    fill: Fill


def pack(matrix: NDArray[np.floating]) -> NDArray[np.floating]:
    """[k, n] as the matrix product reads it: [panels, k, 8], zeros beyond n."""
    k, n = matrix.shape
    wide = np.zeros((k, padded(n)), matrix.dtype)
    wide[:, :n] = matrix
    return wide.reshape(k, -1, PANEL).transpose(1, 0, 2)


class Writer:
    """A module in the making.

    Attributes:
        body: Statements of `run`, whose parameter `n` is the number of samples.
        constants: What the weights are copied into.
    """

    def __init__(self, max_batch: int) -> None:
        self.max_batch = max_batch
        self.body = Body()
        self.constants: list[Constant] = []
        self.arena = Arena()
        self.functions: dict[str, str] = {}
        self._prefix = ""

    def begin(self, layer: PlannedLayer) -> None:
        """From now on parts of tensors are those of this layer."""
        self._prefix = "head." if layer.index is None else f"layers.{layer.index}."

    # memory

    def buffer(self, steps: int | None, width: int) -> Buffer:
        """Memory for the values of a batch."""
        row_bytes = padded(width) * FLOAT_BYTES
        sample_bytes = row_bytes * (steps or 1)
        at = self.arena.take(sample_bytes * self.max_batch)
        return Buffer(at, steps, width, row_bytes, sample_bytes, at)

    def release(self, *buffers: Buffer) -> None:
        """These are not read any more."""
        for buffer in buffers:
            self.arena.give_back(buffer.owner)

    def constant(self, size: int, fill: Fill) -> int:
        """Address of floats made from the tensors of the present layer."""
        at, prefix = self.arena.keep(size * FLOAT_BYTES), self._prefix

        def of_network(tensors: Tensors) -> NDArray[np.floating]:
            parts = {
                name.removeprefix(prefix): value
                for name, value in tensors.items()
                if name.startswith(prefix)
            }
            return fill(parts)

        self.constants.append(Constant(at, size, of_network))
        return at

    def fixed(self, values: NDArray[np.floating]) -> int:
        """Address of floats that do not depend on the weights."""
        at = self.arena.keep(values.size * FLOAT_BYTES)
        self.constants.append(Constant(at, values.size, lambda _tensors: values))
        return at

    def zeros(self, n: int) -> int:
        """Address of a row of zeros."""
        return self.fixed(np.zeros(padded(n), np.float32))

    def weights(self, k: int, n: int, fill: Fill) -> int:
        """Packed weights, made from a [k, n] matrix."""
        return self.constant(k * padded(n), lambda parts: pack(fill(parts)))

    def vector(self, n: int, fill: Fill) -> int:
        """A row of floats, zeros beyond n."""
        return self.constant(
            padded(n), lambda parts: np.pad(fill(parts).ravel(), (0, padded(n) - n))
        )

    # statements

    @property
    def samples(self) -> Expression:
        """How many samples there are."""
        return local("n")

    def rows(self, buffer: Buffer) -> Expression:
        """How many rows a buffer has."""
        return times(self.samples, buffer.rows)

    def call(self, kernel: str, *arguments: Expression | int) -> None:
        """Call a kernel, which becomes part of the module."""
        for name in (*NEEDS.get(kernel, ()), kernel):
            if name not in self.functions:
                self.functions[name] = MATMUL if name == "matmul" else KERNELS[name]
        self.body.call(kernel, *arguments)

    def product(
        self, x: Buffer, width: int, weights: int, bias: int, *, k: int | None = None
    ) -> Buffer:
        """`x W + b` for every row: a new buffer of `width` features."""
        y = self.buffer(x.steps, width)
        self.multiply(x, weights, bias, y, k=k)
        return y

    def multiply(
        self, x: Buffer, weights: int, bias: int, y: Buffer, *, k: int | None = None
    ) -> None:
        """`y = x W + b` for every row."""
        self.call(
            "matmul", x.at, x.between_rows, weights, bias, 0, y.at, y.between_rows,
            self.rows(x), k or x.width, 1, 0, padded(y.width) // PANEL,
        )  # fmt: skip

    def activate(self, name: str, buffer: Buffer) -> None:
        """An activation by its Keras name, in place, over the last axis."""
        self.activate_at(name, buffer.at, buffer.between_rows, buffer.width, self.rows(buffer))

    def activate_at(
        self, name: str, at: Expression | int, row_bytes: int, width: int, rows: Expression
    ) -> None:
        """The same for rows at an address."""
        if name == SOFTMAX:
            self.call("softmax", at, row_bytes, width, rows)
        elif name != LINEAR:
            self.map_at(name, FUNCTIONS[name], at, row_bytes, width, rows)

    def map_at(
        self,
        name: str,
        function: Function,
        at: Expression | int,
        row_bytes: int,
        width: int,
        rows: Expression,
    ) -> None:
        """Map a function over rows in place."""
        kernel = f"map_{name}"
        if kernel not in self.functions:
            self.functions[kernel] = map_kernel(kernel, function)
        self.body.call(kernel, at, row_bytes, padded(width) * FLOAT_BYTES // 16, rows)

    def apply(self, kernel: str, y: Buffer, *others: Buffer) -> None:
        """A kernel over the rows of equal buffers, for example `y = y + x`."""
        places = [term for one in (y, *others) for term in (one.at, one.between_rows)]
        self.call(kernel, *places, y.vectors, self.rows(y))

    def copied(self, x: Buffer) -> Buffer:
        """A copy whose rows follow each other without gaps."""
        y = self.buffer(x.steps, x.width)
        n_bytes = x.width * FLOAT_BYTES
        self.call("copy_rows", y.at, y.between_rows, x.at, x.between_rows, n_bytes, self.rows(x))
        return y

    def owned(self, x: Buffer) -> Buffer:
        """`x`, or a copy where it is only a view: kernels that work in place must not meet gaps."""
        if x.steps is not None or x.between_rows == padded(x.width) * FLOAT_BYTES:
            return x
        y = self.copied(x)
        self.release(x)
        return y

    def sample(self, buffer: Buffer, index: Expression) -> Expression:
        """Address of one sample."""
        return add(times(index, buffer.sample_bytes), buffer.at)
