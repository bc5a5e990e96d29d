"""Recurrent layers as the ONNX operators LSTM, GRU and RNN, which read [steps, n, features]."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.artifacts.onnx_graph.graph import Graph
from flow_nexus_neural.errors import NotAvailable

Parts = Mapping[str, NDArray[np.float32]]

OPERATORS: Final = {"lstm": "LSTM", "gru": "GRU", "simple_rnn": "RNN"}
GATES: Final = {"lstm": (0, 3, 1, 2), "gru": (0, 1, 2), "simple_rnn": (0,)}
"""Blocks of Keras' kernels in the order of ONNX: i, f, c, o become i, o, f, c."""
FUNCTIONS: Final[dict[str, tuple[str, float | None, float | None]]] = {
    "linear": ("Affine", 1.0, 0.0),
    "relu": ("Relu", None, None),
    "leaky_relu": ("LeakyRelu", 0.2, None),
    "elu": ("Elu", 1.0, None),
    "tanh": ("Tanh", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "hard_sigmoid": ("HardSigmoid", 1.0 / 6.0, 0.5),
    "softsign": ("Softsign", None, None),
    "softplus": ("Softplus", None, None),
}
"""Activation functions that these operators know, with their alpha and beta."""
_FORWARD, _BACKWARD = "forward.", "backward."


def recurrent(graph: Graph, x: str, kind: str, args: Mapping[str, Any], parts: Parts) -> str:
    """All steps in the order of processing, [n, steps, units], or the last one processed, [n, units].

    Raises:
        NotAvailable: The operator does not know the activation function.
    """
    backwards = bool(args["go_backwards"])
    outputs = _run(graph, x, kind, args, [parts], "reverse" if backwards else "forward")
    if not args["return_sequences"]:
        return graph.add("Squeeze", f"{outputs}_1", graph.ints(0))
    steps = graph.add("Squeeze", outputs, graph.ints(1))
    if backwards:  # the operator puts each output where its input was
        steps = graph.cut(steps, 0, -1, -(2**31), -1)
    return graph.add("Transpose", steps, perm=[1, 0, 2])


def bidirectional(graph: Graph, x: str, args: Mapping[str, Any], parts: Parts) -> str:
    """Two layers, one over the reversed steps, merged position by position. Raises as `recurrent`."""
    inner = args["layer"]
    both = [
        {name.removeprefix(way): part for name, part in parts.items() if name.startswith(way)}
        for way in (_FORWARD, _BACKWARD)
    ]
    outputs = _run(graph, x, str(inner["type"]), inner, both, "bidirectional")
    sequences = bool(inner["return_sequences"])
    source, axis = (outputs, 1) if sequences else (f"{outputs}_1", 0)
    ahead, behind = (
        graph.add("Gather", source, graph.constant(way, np.int64), axis=axis) for way in (0, 1)
    )
    merge = str(args["merge_mode"])
    if merge == "concat":
        joined = graph.add("Concat", ahead, behind, axis=-1)
    else:
        joined = graph.add("Mul" if merge == "mul" else "Add", ahead, behind)
    if merge == "ave":
        joined = graph.add("Mul", joined, graph.constant(0.5))
    return graph.add("Transpose", joined, perm=[1, 0, 2]) if sequences else joined


def _run(
    graph: Graph,
    x: str,
    kind: str,
    args: Mapping[str, Any],
    directions: Sequence[Parts],
    direction: str,
) -> str:
    """The operator: outputs [steps, directions, n, units], and as `<name>_1` the last of each direction."""
    units = int(args["units"])
    kernels = [_turned(kind, parts["kernel"], units) for parts in directions]
    states = [_turned(kind, parts["recurrent_kernel"], units) for parts in directions]
    biases = [_biases(kind, parts["bias"], units) for parts in directions]
    attributes: dict[str, Any] = {
        "hidden_size": units,
        "direction": direction,
        **_functions(kind, args, len(directions)),
    }
    if kind == "gru":
        attributes["linear_before_reset"] = 1
    return graph.add(
        OPERATORS[kind],
        graph.add("Transpose", x, perm=[1, 0, 2]),
        graph.constant(np.stack(kernels)),
        graph.constant(np.stack(states)),
        graph.constant(np.stack(biases)),
        outputs=2,
        **attributes,
    )


def _turned(kind: str, kernel: NDArray[np.float32], units: int) -> NDArray[np.float32]:
    """[gates * units, inputs] of [inputs, gates * units], gates in the order of ONNX."""
    blocks = kernel.reshape(kernel.shape[0], -1, units)[:, list(GATES[kind])]
    return blocks.reshape(kernel.shape[0], -1).T


def _biases(kind: str, bias: NDArray[np.float32], units: int) -> NDArray[np.float32]:
    """[2 * gates * units]: that of the input, then that of the state, which Keras has for the GRU only."""
    rows = bias.reshape(-1, len(GATES[kind]), units)[:, list(GATES[kind])].reshape(
        len(np.atleast_2d(bias)), -1
    )
    return np.concatenate([rows[0], rows[1] if len(rows) > 1 else np.zeros_like(rows[0])])


def _functions(kind: str, args: Mapping[str, Any], n_directions: int) -> dict[str, Any]:
    """The activation functions of each direction, and their parameters as far as they have some."""
    own, gate = str(args["activation"]), str(args.get("recurrent_activation"))
    names = {"lstm": (gate, own, own), "gru": (gate, own), "simple_rnn": (own,)}[kind]
    unknown = [name for name in names if name not in FUNCTIONS]
    if unknown:
        raise NotAvailable(
            f"the ONNX operator {OPERATORS[kind]} does not know the activation {unknown[0]}",
            hint=f"export safetensors or predictor, or train with one of {', '.join(FUNCTIONS)}",
        )
    used = [FUNCTIONS[name] for name in names] * n_directions
    attributes: dict[str, Any] = {"activations": [name for name, _, _ in used]}
    alphas = [alpha for _, alpha, _ in used if alpha is not None]
    betas = [beta for _, _, beta in used if beta is not None]
    return attributes | {
        name: values
        for name, values in (("activation_alpha", alphas), ("activation_beta", betas))
        if values
    }
