"""A graph under construction; the one module that imports `onnx`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.errors import NotAvailable

OPSET: Final = 17
"""The first with layer normalisation as one operator; runtimes since 2022 read it."""
IR_VERSION: Final = 8
MAX_BYTES: Final = 1_900_000_000
"""A graph is one protocol buffer, which cannot have 2 GiB."""

Shape = Sequence[int | str]


class Graph:
    """Nodes and constants; every method that adds a node returns the name of its first output."""

    def __init__(self) -> None:
        """Start empty.

        Raises:
            NotAvailable: `onnx` is not installed.
        """
        try:
            import onnx
        except ImportError:
            raise NotAvailable(
                "the format onnx needs the package onnx, which is not installed",
                hint="run: pip install 'flow-nexus-neural[onnx]' and start the server again",
            ) from None
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[Any] = []
        self._n_bytes = 0

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node with so many outputs; all but the first are called `<first>_1` and so on."""
        first = f"{operator.lower()}_{len(self._nodes)}"
        names = [first, *(f"{first}_{number}" for number in range(1, outputs))]
        node = self._onnx.helper.make_node(operator, list(inputs), names, **attributes)
        self._nodes.append(node)
        return first

    def constant(self, value: Any, dtype: type[np.generic] = np.float32) -> str:
        """An array that is part of the graph, once however often it is used.

        Raises:
            NotAvailable: The graph becomes too large for one file.
        """
        array: NDArray[Any] = np.array(value, dtype=dtype, order="C")
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._n_bytes += array.nbytes
            if self._n_bytes > MAX_BYTES:
                raise NotAvailable(
                    "the networks are too large for one ONNX file",
                    hint="export safetensors instead",
                )
            name = f"constant_{len(self._initializers)}"
            self._initializers.append(self._onnx.numpy_helper.from_array(array, name))
            self._constants[key] = name
        return self._constants[key]

    def double(self, value: Any) -> str:
        """A float64 constant."""
        return self.constant(value, np.float64)

    def ints(self, *values: int) -> str:
        """A list of integers, for example a shape."""
        return self.constant(list(values), np.int64)

    def cast(self, value: str, to: str) -> str:
        """A value as FLOAT, DOUBLE or INT64."""
        return self.add("Cast", value, to=getattr(self._onnx.TensorProto, to))

    def last(self, value: str, axis: int, *, keep: bool) -> str:
        """The last element of an axis, which stays with length 1 where `keep`."""
        index = self.constant([-1] if keep else -1, np.int64)
        return self.add("Gather", value, index, axis=axis)

    def cut(self, value: str, axis: int, start: int, end: int, step: int = 1) -> str:
        """A slice of one axis."""
        bounds = [self.ints(number) for number in (start, end, axis, step)]
        return self.add("Slice", value, *bounds)

    def finished(
        self,
        inputs: Mapping[str, tuple[str, Shape]],
        outputs: Mapping[str, tuple[str, str, Shape]],
        metadata: Mapping[str, str],
        described: str,
    ) -> bytes:
        """The file.

        Args:
            inputs: Element type and shape by name; a text in a shape is a free dimension.
            outputs: The value, its element type and its shape, by name.
            metadata: Texts that the file carries.
            described: For people.
        """
        onnx, helper = self._onnx, self._onnx.helper

        def info(name: str, kind: str, shape: Shape) -> Any:
            return helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), shape)

        for name, (value, _, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name]))
        graph = helper.make_graph(
            self._nodes,
            "flow_nexus_neural",
            [info(name, *one) for name, one in inputs.items()],
            [info(name, kind, shape) for name, (_, kind, shape) in outputs.items()],
            self._initializers,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="flow-nexus-neural",
            doc_string=described,
        )
        helper.set_model_props(model, dict(sorted(metadata.items())))
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString(deterministic=True)
        return content
