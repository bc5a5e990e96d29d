"""Each layer type as ONNX operators, and networks of them; x is [n, features] or [n, steps, features]."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.artifacts.description import part_of
from flow_nexus_neural.artifacts.model import ExportedNetwork
from flow_nexus_neural.artifacts.onnx_graph.graph import Graph
from flow_nexus_neural.artifacts.onnx_graph.recurrent import bidirectional, recurrent
from flow_nexus_neural.artifacts.standalone.attention import ENCODER_EPSILON, sinusoids
from flow_nexus_neural.artifacts.standalone.layers import IDENTITIES, band_adjacency, same_padding
from flow_nexus_neural.errors import NotAvailable
from flow_nexus_neural.protocol.plan import InputSpec, NetworkPlan, PlannedLayer

Parts = Mapping[str, NDArray[np.float32]]

_PLAIN: Final = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1.0 / 6.0, "beta": 0.5}),
    "softmax": ("Softmax", {"axis": -1}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "exponential": ("Exp", {}),
}


@dataclass(frozen=True)
class Layer:
    """One layer of a plan while it is written.

    Attributes:
        graph: Gets its operators.
        planned: As the plan has it.
        parts: Its tensors by their names within the layer.
    """

    graph: Graph
    planned: PlannedLayer
    parts: Parts

    @property
    def args(self) -> Mapping[str, Any]:
        """Its arguments."""
        return self.planned.args

    def tensor(self, name: str) -> str:
        """One of its tensors as a constant."""
        return self.graph.constant(self.parts[name])

    def activated(self, x: str) -> str:
        """Its activation function of a value."""
        return activation(self.graph, x, str(self.args["activation"]))


def activation(graph: Graph, x: str, name: str) -> str:
    """An activation function by its Keras name and with Keras' constants."""
    if name == "linear":
        return x
    if name == "relu6":
        return graph.add("Clip", x, graph.constant(0.0), graph.constant(6.0))
    if name == "silu":
        return graph.add("Mul", x, graph.add("Sigmoid", x))
    if name == "mish":
        return graph.add("Mul", x, graph.add("Tanh", graph.add("Softplus", x)))
    if name == "gelu":
        spread = graph.add("Erf", graph.add("Mul", x, graph.constant(1.0 / sqrt(2.0))))
        half = graph.add("Mul", x, graph.constant(0.5))
        return graph.add("Mul", half, graph.add("Add", spread, graph.constant(1.0)))
    if name not in _PLAIN:
        raise NotAvailable(
            f"activation {name} has no ONNX operator", hint="export safetensors instead"
        )
    operator, attributes = _PLAIN[name]
    return graph.add(operator, x, **cast("dict[str, Any]", attributes))


def _dense(of: Layer, x: str) -> str:
    out = of.graph.add("MatMul", x, of.tensor("kernel"))
    if "bias" in of.parts:
        out = of.graph.add("Add", out, of.tensor("bias"))
    return of.activated(out)


def _conv1d(of: Layer, x: str) -> str:
    size, strides, dilation = (
        int(of.args[name]) for name in ("kernel_size", "strides", "dilation_rate")
    )
    reach = (size - 1) * dilation
    pads = {
        "valid": (0, 0),
        "same": same_padding(of.planned.in_shape[0], reach, strides),
        "causal": (reach, 0),
    }[str(of.args["padding"])]
    kernel = of.graph.constant(of.parts["kernel"].transpose(2, 1, 0))
    turned = of.graph.add("Transpose", x, perm=[0, 2, 1])
    out = of.graph.add(
        "Conv",
        turned,
        kernel,
        of.tensor("bias"),
        kernel_shape=[size],
        strides=[strides],
        dilations=[dilation],
        pads=list(pads),
    )
    return of.activated(of.graph.add("Transpose", out, perm=[0, 2, 1]))


def _graph_conv(of: Layer, x: str) -> str:
    adjacency = band_adjacency(of.planned.in_shape[0], int(of.args["hops"]))
    mixed = of.graph.add("MatMul", of.graph.constant(adjacency), x)
    return _dense(of, mixed)


def _pooled(of: Layer, x: str) -> str:
    kind = of.planned.type
    if kind.startswith("global_"):
        operator = "ReduceMax" if "max" in kind else "ReduceMean"
        return of.graph.add(operator, x, axes=[1], keepdims=0)
    turned = of.graph.add("Transpose", x, perm=[0, 2, 1])
    out = of.graph.add(
        "MaxPool" if "max" in kind else "AveragePool",
        turned,
        kernel_shape=[int(of.args["pool_size"])],
        strides=[int(of.args["strides"])],
    )
    return of.graph.add("Transpose", out, perm=[0, 2, 1])


def _batch_norm(of: Layer, x: str) -> str:
    wide = {name: part.astype(np.float64) for name, part in of.parts.items()}
    scale = wide["gamma"] / np.sqrt(wide["moving_variance"] + float(of.args["epsilon"]))
    centred = of.graph.add("Sub", x, of.tensor("moving_mean"))
    scaled = of.graph.add("Mul", centred, of.graph.constant(scale))
    return of.graph.add("Add", scaled, of.tensor("beta"))


def _layer_norm(of: Layer, x: str, prefix: str = "", epsilon: float | None = None) -> str:
    used = float(of.args["epsilon"]) if epsilon is None else epsilon
    gamma, beta = of.tensor(f"{prefix}gamma"), of.tensor(f"{prefix}beta")
    return of.graph.add("LayerNormalization", x, gamma, beta, axis=-1, epsilon=used)


def _attend(of: Layer, x: str, prefix: str = "", *, causal: bool = False) -> str:
    graph = of.graph
    width, heads, key_dim = of.parts[f"{prefix}query_kernel"].shape

    def projected(name: str, perm: list[int]) -> str:
        kernel = graph.constant(of.parts[f"{prefix}{name}_kernel"].reshape(width, -1))
        bias = graph.constant(of.parts[f"{prefix}{name}_bias"].reshape(-1))
        flat = graph.add("Add", graph.add("MatMul", x, kernel), bias)
        split = graph.add("Reshape", flat, graph.ints(0, 0, heads, key_dim))
        return graph.add("Transpose", split, perm=perm)

    query, key = projected("query", [0, 2, 1, 3]), projected("key", [0, 2, 3, 1])
    scores = graph.add("MatMul", query, key)
    scores = graph.add("Mul", scores, graph.constant(1.0 / sqrt(key_dim)))
    if causal:
        steps = of.planned.in_shape[0]
        future = np.triu(np.full((steps, steps), -np.inf), 1)
        scores = graph.add("Add", scores, graph.constant(future))
    shares = graph.add("Softmax", scores, axis=-1)
    mixed = graph.add("MatMul", shares, projected("value", [0, 2, 1, 3]))
    joined = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", joined, graph.ints(0, 0, heads * key_dim))
    output = graph.constant(of.parts[f"{prefix}output_kernel"].reshape(heads * key_dim, -1))
    return graph.add("Add", graph.add("MatMul", joined, output), of.tensor(f"{prefix}output_bias"))


def _encoder(of: Layer, x: str) -> str:
    graph = of.graph
    for number in range(int(of.args["depth"])):
        block = f"block{number}."
        normal = _layer_norm(of, x, f"{block}attention_norm.", ENCODER_EPSILON)
        x = graph.add("Add", x, _attend(of, normal, f"{block}attention."))
        hidden = _layer_norm(of, x, f"{block}feed_forward_norm.", ENCODER_EPSILON)
        hidden = graph.add("MatMul", hidden, of.tensor(f"{block}feed_forward_in.kernel"))
        hidden = of.activated(graph.add("Add", hidden, of.tensor(f"{block}feed_forward_in.bias")))
        out = graph.add("MatMul", hidden, of.tensor(f"{block}feed_forward_out.kernel"))
        out = graph.add("Add", out, of.tensor(f"{block}feed_forward_out.bias"))
        x = graph.add("Add", x, out)
    return x


def _leaky(of: Layer, x: str) -> str:
    return of.graph.add("LeakyRelu", x, alpha=float(of.args["negative_slope"]))


def _recurrent(of: Layer, x: str) -> str:
    return recurrent(of.graph, x, of.planned.type, of.args, of.parts)


_WRITERS: Final[dict[str, Callable[[Layer, str], str]]] = {
    "dense": _dense,
    "conv1d": _conv1d,
    "graph_conv": _graph_conv,
    "max_pooling1d": _pooled,
    "average_pooling1d": _pooled,
    "global_average_pooling1d": _pooled,
    "global_max_pooling1d": _pooled,
    "batch_normalization": _batch_norm,
    "layer_normalization": _layer_norm,
    "lstm": _recurrent,
    "gru": _recurrent,
    "simple_rnn": _recurrent,
    "bidirectional": lambda of, x: bidirectional(of.graph, x, of.args, of.parts),
    "attention": lambda of, x: _attend(of, x, causal=bool(of.args["causal"])),
    "transformer_encoder": _encoder,
    "positional_encoding": lambda of, x: of.graph.add(
        "Add", x, of.graph.constant(sinusoids(*of.planned.in_shape))
    ),
    "flatten": lambda of, x: of.graph.add("Flatten", x, axis=1),
    "activation": lambda of, x: of.activated(x),
    "leaky_relu": _leaky,
}


def network(graph: Graph, rows: str, of: ExportedNetwork) -> str:
    """Logits [n, outputs] float32 of scaled rows [n, *row_shape] float32.

    Raises:
        NotAvailable: ONNX has no operator for a layer or its activation.
    """
    plan, tensors = of.plan, of.tensors
    spec = plan.input
    sequence = plan.view == "sequence"
    x = _sequence(graph, rows, spec) if sequence else graph.add("Flatten", rows, axis=1)
    for planned in plan.layers:
        if planned.take_last_step and sequence:
            x, sequence = graph.last(x, 1, keep=False), False
        if planned.type not in IDENTITIES:
            parts = {part_of(tensor.name): tensors[tensor.name] for tensor in planned.tensors}
            x = _WRITERS[planned.type](Layer(graph, planned, parts), x)
        if planned.last_query_only:
            x = graph.last(x, 1, keep=True)
        sequence = sequence and len(planned.out_shape) == 2
    return x


def _sequence(graph: Graph, rows: str, spec: InputSpec) -> str:
    """[n, steps, channels]: a window as it is; else the vector, each scalar repeated as a channel."""
    if spec.window is not None:
        return rows
    if not spec.vector_length:
        return graph.add("Unsqueeze", rows, graph.ints(1))
    steps, width = spec.vector_length, spec.flat_width
    vector = graph.add("Unsqueeze", graph.cut(rows, 1, 0, steps), graph.ints(2))
    if width == steps:
        return vector
    scalars = graph.add("Unsqueeze", graph.cut(rows, 1, steps, width), graph.ints(1))
    repeated = graph.add("Tile", scalars, graph.ints(1, steps, 1))
    return graph.add("Concat", vector, repeated, axis=2)


def any_length(plan: NetworkPlan) -> bool:
    """Whether a network of windows can read windows of other lengths than those of its training."""

    def free(layer: PlannedLayer) -> bool:
        if layer.type in ("flatten", "graph_conv", "positional_encoding"):
            return False
        if layer.type == "attention":
            return not layer.args["causal"]
        return (
            layer.type != "conv1d" or layer.args["padding"] != "same" or layer.args["strides"] == 1
        )

    return plan.view == "sequence" and plan.input.window is not None and all(map(free, plan.layers))
